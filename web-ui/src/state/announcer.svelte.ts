/**
 * One polite live region for the whole page: "thinking", "answering", "answer complete".
 * Never the tokens themselves: a screen reader would drown in them.
 */
class Announcer {
  text = $state('');

  say(text: string): void {
    this.text = text;
  }
}

export const announcer = new Announcer();

/** A short message to everyone, shown until dismissed or replaced. */
class Notice {
  text = $state<string | null>(null);
  #timer: ReturnType<typeof setTimeout> | undefined;

  show(text: string): void {
    this.text = text;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.dismiss(), 8_000);
  }

  dismiss(): void {
    clearTimeout(this.#timer);
    this.text = null;
  }
}

export const notice = new Notice();
