/**
 * Renders a growing text: finished blocks are put into the document once and never touched again, only
 * the tail is rendered anew.
 *
 *     root:  <p> <pre> <ul>   <!--tail-->   <p>the last bl…
 *            └ committed ──┘               └ replaced on each render
 *
 * The last two blocks stay in the tail: a list may still grow by an item after a blank line, and a
 * paragraph may still turn into a heading or a table.
 */

import type { Token } from 'marked';
import { lex } from './parse';
import { normalize, renderTokens } from './render';

/** Blocks that may still change when text is added. */
const OPEN_BLOCKS = 2;
/** At most 20 renders a second. */
const RENDER_MS_MIN = 50;

export class TailRenderer {
  readonly #root: HTMLElement;
  readonly #onCommit: (block: Element) => void;
  readonly #boundary = document.createComment('tail');
  #source = '';
  #committed = '';
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renderedAt = -Infinity;
  /** Reference definitions change blocks above them: then the end needs one full render. */
  #hasDefinitions = false;

  /** `onCommit` gets each finished block, for colours and formulas. */
  constructor(root: HTMLElement, onCommit: (block: Element) => void = () => {}) {
    this.#root = root;
    this.#onCommit = onCommit;
    root.replaceChildren(this.#boundary);
  }

  /** The text as it is now; shown within 50 ms. */
  update(source: string): void {
    this.#source = source;
    if (this.#timer !== undefined) return;
    const wait = this.#renderedAt + RENDER_MS_MIN - performance.now();
    if (wait <= 0) this.#render();
    else this.#timer = setTimeout(() => this.#render(), wait);
  }

  /** The text is complete: everything is committed. */
  finish(source: string): void {
    this.#cancel();
    this.#source = source;
    if (this.#hasDefinitions) this.#reset();
    this.#render(0);
  }

  /** Forgets a render that is still due. */
  destroy(): void {
    this.#cancel();
  }

  #render(openBlocks = OPEN_BLOCKS): void {
    this.#cancel();
    this.#renderedAt = performance.now();
    const source = normalize(this.#source);
    if (!source.startsWith(this.#committed)) this.#reset();
    const tokens = lex(source.slice(this.#committed.length));
    this.#hasDefinitions ||= tokens.some((token) => token.type === 'def');
    const cut = openBlocks === 0 ? tokens.length : cutBefore(tokens, openBlocks);
    this.#clearTail();
    if (cut > 0) this.#commit(tokens.slice(0, cut));
    if (cut < tokens.length) this.#root.append(renderTokens(tokens.slice(cut)));
  }

  #commit(tokens: Token[]): void {
    const nodes = renderTokens(tokens);
    this.#committed += tokens.map((token) => token.raw).join('');
    const added = [...nodes.children];
    this.#boundary.before(nodes);
    for (const element of added) this.#onCommit(element);
  }

  #clearTail(): void {
    while (this.#boundary.nextSibling) this.#boundary.nextSibling.remove();
  }

  #reset(): void {
    this.#committed = '';
    this.#root.replaceChildren(this.#boundary);
  }

  #cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** Index of the first block that stays open; space between blocks does not count as one. */
function cutBefore(tokens: readonly Token[], openBlocks: number): number {
  let open = 0;
  for (let index = tokens.length - 1; index >= 0; index--) {
    if (tokens[index]?.type !== 'space') open++;
    if (open === openBlocks) return index;
  }
  return 0;
}
