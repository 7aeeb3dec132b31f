/**
 * Markdown to HTML text, with a model's habits in mind. The result is NOT safe to insert: `sanitize.ts`
 * stands between this and the document.
 *
 * - Raw HTML is shown as text, except a few harmless inline tags that models use in tables.
 * - Images become links: nothing is fetched, and the reader sees where it would have gone.
 * - Headings start two levels down, below the page's own.
 */

import { Marked, type Token, type TokensList } from 'marked';
import { escapeHtml } from './escape';
import { mathSyntax } from './math-syntax';

const HARMLESS_TAG = /^<\/?(?:br|sub|sup|kbd|mark)\s*\/?>$/i;
const HEADING_SHIFT = 2;

const marked = new Marked(mathSyntax, {
  gfm: true,
  renderer: {
    html(token) {
      if (HARMLESS_TAG.test(token.text.trim())) return token.text;
      const text = escapeHtml(token.text);
      return token.block ? `<p>${text}</p>\n` : text;
    },
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`,
    tablecell({ tokens, header, align }) {
      // A header without words heads nothing; a screen reader would stumble over it.
      const tag = header && tokens.length > 0 ? 'th' : 'td';
      const side = align ? ` align="${align}"` : '';
      return `<${tag}${side}>${this.parser.parseInline(tokens)}</${tag}>\n`;
    },
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + HEADING_SHIFT);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

/** The blocks of a text; their `raw` fields joined give the text back. */
export function lex(source: string): TokensList {
  return marked.lexer(source);
}

/** HTML of blocks. `links` are the reference definitions of the list the blocks come from. */
export function toHtml(tokens: Token[]): string {
  return marked.parser(tokens);
}
