import { beforeEach, describe, expect, it, vi } from 'vitest';
import { renderMarkdown } from '../src/markdown/render';
import { TailRenderer } from '../src/markdown/tail';

const TEXTS = [
  'One paragraph.\n\nAnother, *with* emphasis.\n\n# Heading\n\ntext right after\nand more',
  '- a\n\n- b\n\n  more of b\n\n1. one\n2. two\n\n   ```js\n   x()\n   ```\n\nend',
  'Setext\n======\n\ntext\n---\n\n> quote\nlazy line\n\n> other\n\n***\n\nend',
  '```python\nprint("a")\n\n\n# not a heading\n```\n\nafter\n\n~~~\nopen fence\n\nnever closed',
  '| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nafter\n\n| not | a table |',
  'See [this][1] and [that].\n\nMore.\n\nEven more.\n\n[1]: https://example.org/1\n[that]: https://example.org/2\n',
  'Formula\n\n$$\n\\frac{1}{2}\n$$\n\nand \\[ x \\] and $y$ 中文 $z$。\n\n第二段。\r\n\r\n第三段，“引号”。\rx',
  '<div>\n\nraw\n\n</div>\n\n<br>\n\n&amp; &lt; \\* end',
  '    indented code\n\n    more\n\ntext\n\n\n\n\nafter many lines\n\n\t- tab',
  '1. a\n\n2. b\n\n3. c\n\ntext\n\n4. d',
];

/** A small generator with a seed that a failure prints. */
function random(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 1_103_515_245 + 12_345) % 2_147_483_648) / 2_147_483_648;
}

function whole(source: string): string {
  const root = document.createElement('div');
  root.append(renderMarkdown(source));
  return visible(root);
}

/** The document's content without the boundary comment and without space between blocks. */
function visible(root: Element): string {
  return root.innerHTML.replaceAll('<!--tail-->', '').replace(/>\s+</g, '><').trim();
}

describe('TailRenderer', () => {
  beforeEach(() => void vi.useFakeTimers());

  it.each(TEXTS.map((text, n) => [n, text]))('ends like a single render of text %i, however it was cut', (n, text) => {
    for (let seed = 1; seed <= 6; seed++) {
      const next = random(seed + Number(n) * 100);
      const root = document.createElement('div');
      const renderer = new TailRenderer(root);
      for (let at = 0; at < text.length; at += 1 + Math.floor(next() * 9)) {
        renderer.update(text.slice(0, at));
        vi.advanceTimersByTime(60);
      }
      renderer.finish(text);
      expect(visible(root), `seed ${seed}`).toBe(whole(text));
    }
  });

  it('never touches a committed block again', () => {
    const root = document.createElement('div');
    const renderer = new TailRenderer(root);
    renderer.update('first\n\nsecond\n\nthird\n\nfourth');
    const first = root.querySelector('p')!;
    for (let n = 0; n < 50; n++) {
      renderer.update(`first\n\nsecond\n\nthird\n\nfourth${' word'.repeat(n)}\n\nnext`);
      vi.advanceTimersByTime(60);
    }
    renderer.finish('first\n\nsecond\n\nthird\n\nfourth\n\nnext');
    expect(root.querySelector('p')).toBe(first);
  });

  it('renders at most 20 times a second', () => {
    const root = document.createElement('div');
    const renderer = new TailRenderer(root);
    const renders = vi.fn();
    root.append = ((append) => (...nodes: (string | globalThis.Node)[]) => { renders(); append(...nodes); })(root.append.bind(root));
    for (let n = 1; n <= 500; n++) {
      renderer.update('x'.repeat(n));
      vi.advanceTimersByTime(2);
    }
    expect(renders.mock.calls.length).toBeLessThanOrEqual(21);
    expect(renders.mock.calls.length).toBeGreaterThan(15);
  });

  it('tells of each committed block once', () => {
    const blocks: string[] = [];
    const renderer = new TailRenderer(document.createElement('div'), (block) => blocks.push(block.localName));
    renderer.update('a\n\n- b\n\nc');
    vi.advanceTimersByTime(60);
    renderer.update('a\n\n- b\n\nc\n\nd');
    vi.advanceTimersByTime(60);
    renderer.finish('a\n\n- b\n\nc\n\nd');
    expect(blocks).toEqual(['p', 'ul', 'p', 'p']);
  });

  it('starts over when the text is not a continuation', () => {
    const root = document.createElement('div');
    const renderer = new TailRenderer(root);
    renderer.update('a\n\nb\n\nc\n\nd');
    vi.advanceTimersByTime(60);
    renderer.finish('other');
    expect(visible(root)).toBe('<p>other</p>');
  });
});
