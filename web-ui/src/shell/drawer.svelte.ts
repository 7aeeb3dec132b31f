/** The side bar on narrow screens: a drawer over the page. */

import { MediaQuery } from 'svelte/reactivity';

class Drawer {
  open = $state(false);
  readonly #query = new MediaQuery('max-width: 50rem');

  get narrow(): boolean {
    return this.#query.current;
  }
}

export const drawer = new Drawer();
