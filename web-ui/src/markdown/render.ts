/** Markdown to nodes of the document. */

import type { Token } from 'marked';
import { lex, toHtml } from './parse';
import { sanitizeMarkdown } from './sanitize';

/** Safe nodes for a whole text. */
export function renderMarkdown(source: string): DocumentFragment {
  return renderTokens(lex(normalize(source)));
}

/** Safe nodes for some blocks of a text. */
export function renderTokens(tokens: Token[]): DocumentFragment {
  const fragment = sanitizeMarkdown(toHtml(tokens));
  for (const table of fragment.querySelectorAll('table')) makeScrollable(table);
  for (const pre of fragment.querySelectorAll('pre')) frameCode(pre);
  return fragment;
}

/** Line ends as the lexer counts them, so that lengths of tokens are lengths of text. */
export function normalize(source: string): string {
  return source.replaceAll('\r\n', '\n').replaceAll('\r', '\n');
}

/** A wide table scrolls by itself, also by keyboard. */
function makeScrollable(table: HTMLTableElement): void {
  const frame = document.createElement('div');
  frame.className = 'table-frame';
  frame.tabIndex = 0;
  table.replaceWith(frame);
  frame.append(table);
}

/**
 *     <figure class="code"><figcaption><span>python</span><button data-copy>…</button></figcaption><pre>…
 *
 * The button has no words here: its owner knows the reader's language (`Markdown.svelte`).
 */
function frameCode(pre: HTMLPreElement): void {
  const figure = document.createElement('figure');
  figure.className = 'code';
  const caption = document.createElement('figcaption');
  const language = document.createElement('span');
  language.textContent = languageOf(pre) ?? '';
  const button = document.createElement('button');
  button.type = 'button';
  button.dataset.copy = '';
  caption.append(language, button);
  pre.tabIndex = 0;
  pre.replaceWith(figure);
  figure.append(caption, pre);
}

/** The language a fence named, without the `language-` of its class. */
export function languageOf(pre: Element): string | null {
  const named = [...(pre.querySelector('code')?.classList ?? [])].find((name) => name.startsWith('language-'));
  return named?.slice('language-'.length) ?? null;
}
