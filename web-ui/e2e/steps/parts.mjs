// The parts of the page that many steps use, by what a reader calls them in either language.

export const QUESTION = 'What is the difference between a process and a thread? Show an example.';
/** A small model may be slow on a busy machine. */
export const ANSWER_MS_MAX = 180_000;

export function partsOf(page) {
  const composer = page.getByRole('textbox', { name: /^(Your message|你的消息)$/ });
  const stopButton = page.getByRole('button', { name: /^(Stop|停止)$/ });
  return {
    composer,
    stopButton,
    answers: page.getByRole('article', { name: /^(Answer|回答)$/ }),
    idle: () => stopButton.waitFor({ state: 'detached', timeout: ANSWER_MS_MAX }),
    ask: async (text) => {
      await composer.fill(text);
      await composer.press('Enter');
    },
  };
}
