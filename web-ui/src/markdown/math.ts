/** Formulas, through KaTeX; a chunk of its own, loaded when the first formula appears. */

import katex from 'katex';
import 'katex/dist/katex.min.css';

/** Puts a formula into an element. What is not TeX stays visible as text, with KaTeX's complaint as its title. */
export function typeset(element: HTMLElement, tex: string, display: boolean): void {
  katex.render(tex, element, {
    displayMode: display,
    throwOnError: false,
    trust: false,
    strict: 'ignore',
    maxSize: 20,
    maxExpand: 500,
  });
}
