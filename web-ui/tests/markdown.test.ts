import { describe, expect, it } from 'vitest';
import { renderMarkdown } from '../src/markdown/render';

function html(source: string): string {
  const root = document.createElement('div');
  root.append(renderMarkdown(source));
  return root.innerHTML;
}

function root(source: string): HTMLElement {
  const element = document.createElement('div');
  element.append(renderMarkdown(source));
  return element;
}

describe('what models write', () => {
  it('renders paragraphs, lists and emphasis', () => {
    expect(html('Some **bold** text\n\n- one\n- two')).toContain('<strong>bold</strong>');
    expect(root('- one\n- two').querySelectorAll('ul > li')).toHaveLength(2);
  });

  it('starts headings below those of the page', () => {
    expect(html('# Big')).toContain('<h3>Big</h3>');
    expect(html('###### Small')).toContain('<h6>Small</h6>');
  });

  it('frames code with its language and a copy button, and keeps its text exact', () => {
    const code = root('```rust\nlet a = "<b>" && \'x\';\n```').querySelector('figure.code')!;
    expect(code.querySelector('figcaption span')?.textContent).toBe('rust');
    expect(code.querySelector('button[data-copy]')).not.toBeNull();
    expect(code.querySelector('pre')?.textContent).toBe('let a = "<b>" && \'x\';\n');
  });

  it('lets wide tables scroll', () => {
    expect(root('| a | b |\n|---|--:|\n| 1 | 2 |').querySelector('.table-frame td[align=right]')?.textContent).toBe('2');
  });

  it('keeps the number a list starts with', () => {
    expect(root('3. three\n4. four').querySelector('ol')?.start).toBe(3);
  });

  it('shows tasks as signs, not as form controls', () => {
    expect(root('- [x] done\n- [ ] open').textContent).toContain('☑ done');
  });

  it('shows raw HTML as text, except harmless inline tags', () => {
    expect(root('a <div>b</div>').textContent).toContain('<div>b</div>');
    expect(root('a<br>b H<sub>2</sub>O').querySelectorAll('br, sub')).toHaveLength(2);
  });

  it('keeps raw HTML blocks visible', () => {
    expect(root('<details>\n<summary>more</summary>\n</details>').textContent).toContain('<summary>more</summary>');
  });
});

describe('formulas', () => {
  const formulas = (source: string) => [...root(source).querySelectorAll('.math')].map((element) => element.textContent);

  it.each([
    ['With $p$ of the work', ['p']],
    ['so $p = 0.9$ and $n$', ['p = 0.9', 'n']],
    ['并行部分为 $p$、核心数为 $n$ 时', ['p', 'n']],
    ['the area \\(\\pi r^2\\) of', ['\\pi r^2']],
    ['$$\nx^2\n$$', ['x^2']],
    ['$$x$$', ['x']],
    ['text \\[ y_1 \\] text', ['y_1']],
    ['\\[\n a < b \n\\]', ['a < b']],
    ['- item\n\n  $$a_1 * b * c$$', ['a_1 * b * c']],
    ['$a_1$ and $b_2$ keep _emphasis_', ['a_1', 'b_2']],
  ])('finds %j', (source, expected) => expect(formulas(source)).toEqual(expected));

  it.each(['It costs $5 and $10.', 'from $5-$10', 'a $ b $ c', '`$x$`', '```\n$x$\n```', 'US$100 或 $ 200'])(
    'leaves %j alone', (source) => expect(formulas(source)).toEqual([]));
});

describe('links', () => {
  it('open elsewhere, learn nothing, and show where they lead', () => {
    const link = root('[a](https://example.org/x?y=z)').querySelector('a')!;
    expect(link.getAttribute('href')).toBe('https://example.org/x?y=z');
    expect(link.title).toBe('https://example.org/x?y=z');
    expect(link.target).toBe('_blank');
    expect(link.rel).toBe('noopener noreferrer nofollow');
  });

  it('show look-alike hosts in ASCII, and never a title of their own', () => {
    const link = root('[bank](https://аррӏе.com "https://apple.com")').querySelector('a')!;
    expect(link.title).toMatch(/^https:\/\/xn--/);
  });

  it.each(['/api/logout', 'javascript:alert(1)', 'data:text/html,x', '//evil.example', 'file:///etc/passwd', 'blob:x'])(
    'to %s are only text', (href) => {
      expect(root(`[words](${href})`).querySelector('a')).toBeNull();
      expect(root(`[words](${href})`).textContent).toContain('words');
    });

  it('stand in for images', () => {
    expect(root('![cat](https://example.org/cat.png)').querySelector('img')).toBeNull();
    expect(root('![cat](https://example.org/cat.png)').querySelector('a')?.textContent).toBe('cat');
  });
});
