/**
 * TeX inside markdown: `$…$`, `\(…\)`, `$$…$$`, `\[…\]`.
 *
 * The text of the formula becomes the text of an element of class `math`; `enhance.ts` sets it in type
 * later. Money stays money: as in Pandoc, an inline `$` opens only before a non-space, and closes only
 * after a non-space and not before a digit.
 */

import type { MarkedExtension, TokenizerAndRendererExtension } from 'marked';
import { escapeHtml } from './escape';

const INLINE = /^(?:\$(?![\s$])((?:\\.|[^\\$\n])+?)(?<!\s)\$(?![\d$])|\\\((.+?)\\\))/;
const INLINE_DISPLAY = /^(?:\$\$([^$]+?)\$\$|\\\[([\s\S]+?)\\\])/;
const BLOCK = /^ {0,3}(?:\$\$([^$]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n+|$)/;

function formula(name: string, level: 'inline' | 'block', rule: RegExp, display: boolean) {
  const element = level === 'block' ? 'div' : 'span';
  const classes = display ? 'math display' : 'math';
  return {
    name,
    level,
    start: level === 'block' ? nextLine : nextSign,
    tokenizer(source: string) {
      const match = rule.exec(source);
      if (!match) return undefined;
      return { type: name, raw: match[0], text: (match[1] ?? match[2] ?? '').trim() };
    },
    renderer: (token) => `<${element} class="${classes}">${escapeHtml(String(token.text))}</${element}>`,
  } satisfies TokenizerAndRendererExtension;
}

/** Where an inline formula may begin. */
function nextSign(source: string): number | undefined {
  const at = source.search(/\$|\\[([]/);
  return at < 0 ? undefined : at;
}

/** Where a block formula may interrupt a paragraph: only at the beginning of a line. */
function nextLine(source: string): number | undefined {
  const at = source.search(/\n {0,3}(?:\$\$|\\\[)/);
  return at < 0 ? undefined : at + 1;
}

export const mathSyntax: MarkedExtension = {
  extensions: [
    formula('mathBlock', 'block', BLOCK, true),
    formula('mathInlineDisplay', 'inline', INLINE_DISPLAY, true),
    formula('mathInline', 'inline', INLINE, false),
  ],
};
