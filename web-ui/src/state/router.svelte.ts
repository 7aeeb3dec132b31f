/** The page's own paths. The daemon answers all of them with `index.html`. */

export type SettingsTab = 'account' | 'keys' | 'people' | 'status' | 'updates' | 'about';

export type Route =
  | { page: 'chat'; chatId: string | null }
  | { page: 'settings'; tab: SettingsTab };

const TABS: readonly SettingsTab[] = ['account', 'keys', 'people', 'status', 'updates', 'about'];

/** What a path shows; an unknown one shows a new chat. */
export function parsePath(path: string): Route {
  const [first, second] = path.split('/').filter(Boolean);
  if (first === 'c' && second) return { page: 'chat', chatId: decode(second) };
  if (first === 'settings') return { page: 'settings', tab: TABS.find((tab) => tab === second) ?? 'account' };
  return { page: 'chat', chatId: null };
}

function decode(segment: string): string | null {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}

class Router {
  route = $state<Route>(parsePath(location.pathname));

  /** Goes to a path of this page, as a link would. */
  go(path: string, replace = false): void {
    if (replace) history.replaceState(null, '', path);
    else if (path !== location.pathname) history.pushState(null, '', path);
    this.route = parsePath(path);
  }

  /** Lets plain clicks on our own links change the page without loading it again. */
  listen(): void {
    addEventListener('popstate', () => (this.route = parsePath(location.pathname)));
    document.addEventListener('click', (event) => {
      const link = (event.target as Element | null)?.closest?.('a');
      if (!link || event.defaultPrevented || !isPlainClick(event) || !isOwnPage(link)) return;
      event.preventDefault();
      this.go(link.pathname);
    });
  }
}

function isPlainClick(event: MouseEvent): boolean {
  return event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
}

function isOwnPage(link: HTMLAnchorElement): boolean {
  return link.origin === location.origin && !link.target && !link.hasAttribute('download')
    && !link.hash && !link.pathname.startsWith('/api/');
}

export const router = new Router();
