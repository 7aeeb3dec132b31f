/**
 * The only door from model text to the document. Both functions give a parsed fragment, so what was
 * checked is what is inserted: nothing is turned into HTML text and parsed a second time.
 *
 * A second wall stands behind this one: the page's content security policy allows no inline script, no
 * foreign image, style, font or connection, and Trusted Types forbid any other way to write HTML.
 */

import DOMPurify, { type Config } from 'dompurify';

const MARKDOWN: Config = {
  ALLOWED_TAGS: [
    'a', 'blockquote', 'br', 'code', 'del', 'div', 'em', 'h3', 'h4', 'h5', 'h6', 'hr', 'kbd', 'li', 'mark',
    'ol', 'p', 'pre', 'span', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'ul', '#text',
  ],
  ALLOWED_ATTR: ['align', 'class', 'href', 'start', 'title'],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  // DOMPurify holds every attribute to that pattern unless told that it carries no address.
  ADD_URI_SAFE_ATTR: ['align', 'start'],
  RETURN_DOM_FRAGMENT: true,
};

/** What the highlighter makes: spans with classes, nothing else. */
const HIGHLIGHTED: Config = {
  ALLOWED_TAGS: ['span', '#text'],
  ALLOWED_ATTR: ['class'],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** Classes that may come out of markdown; all others could dress text up as a part of the page. */
const MARKDOWN_CLASS = /^(?:math|display|language-[\w+#.-]{1,32})$/;

/** Safe nodes for the HTML of `toHtml`. */
export function sanitizeMarkdown(html: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(html, MARKDOWN) as unknown as DocumentFragment;
  for (const element of fragment.querySelectorAll('[class]')) keepKnownClasses(element);
  for (const link of fragment.querySelectorAll('a')) showTarget(link);
  return fragment;
}

/** Safe nodes for highlighted code. */
export function sanitizeHighlighted(html: string): DocumentFragment {
  return DOMPurify.sanitize(html, HIGHLIGHTED) as unknown as DocumentFragment;
}

function keepKnownClasses(element: Element): void {
  const kept = [...element.classList].filter((name) => MARKDOWN_CLASS.test(name));
  if (kept.length > 0) element.className = kept.join(' ');
  else element.removeAttribute('class');
}

/** A link opens elsewhere, learns nothing about us, and says where it leads, in ASCII letters. */
function showTarget(link: HTMLAnchorElement): void {
  const href = link.getAttribute('href');
  if (href === null || !URL.canParse(href)) {
    link.replaceWith(...link.childNodes);
    return;
  }
  const full = new URL(href).href;
  link.href = full;
  link.title = full;
  link.target = '_blank';
  link.rel = 'noopener noreferrer nofollow';
}
