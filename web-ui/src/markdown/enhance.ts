/** What may come later than the text: colours in code and formulas in type. Each loads on first use. */

import { languageOf } from './render';
import { sanitizeHighlighted } from './sanitize';

/** Longest code that is coloured; beyond it plain text is kinder to the reader's browser. */
const HIGHLIGHT_CHARS_MAX = 60_000;
/** Longest formula that is set. */
const FORMULA_CHARS_MAX = 4_000;

/** Colours the code and sets the formulas in `root`, itself included. Text that fails stays as it is. */
export async function enhance(root: Element): Promise<void> {
  const codes = [...root.querySelectorAll('figure.code pre')].filter((pre) => languageOf(pre) !== null);
  const formulas = [...root.querySelectorAll<HTMLElement>('.math')];
  if (root instanceof HTMLElement && root.matches('.math')) formulas.push(root);
  await Promise.all([codes.length > 0 && highlightAll(codes), formulas.length > 0 && typesetAll(formulas)]);
}

async function highlightAll(codes: Element[]): Promise<void> {
  const { highlight } = await import('./highlight');
  for (const pre of codes) {
    const code = pre.querySelector('code');
    const language = languageOf(pre);
    if (!code || !language || code.textContent.length > HIGHLIGHT_CHARS_MAX) continue;
    const html = highlight(code.textContent, language);
    if (html !== null) code.replaceChildren(sanitizeHighlighted(html));
  }
}

async function typesetAll(formulas: HTMLElement[]): Promise<void> {
  const { typeset } = await import('./math');
  for (const formula of formulas) {
    const tex = formula.textContent;
    if (tex.length <= FORMULA_CHARS_MAX && !formula.querySelector('.katex')) {
      typeset(formula, tex, formula.classList.contains('display'));
    }
  }
}
