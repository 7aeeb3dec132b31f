/** What writing fields share. */

/** keyCode of a key that an input method took; Safari sends it after `isComposing` is already over. */
const KEY_OF_INPUT_METHOD = 229;

/** Enter without Shift, and not the Enter that picks a candidate in an input method. */
export function isSendKey(event: KeyboardEvent): boolean {
  return event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== KEY_OF_INPUT_METHOD;
}

/** Makes a field as high as its text; its style sheet sets the limit. */
export function growWithText(field: HTMLTextAreaElement): void {
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight}px`;
}
