// C0 but tab and newline, DEL and C1, and what turns the direction of the text.
const control = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text as it may be printed: control characters, which names of files and of tensors may hold, become visible (`\x1b`)
 * instead of moving the terminal's cursor. JSON stays the same JSON: it holds none below `\u007f`.
 */
export function printable(text: string): string {
  return text.replace(control, (character) => {
    const code = character.charCodeAt(0).toString(16);
    return character < ' ' ? `\\x${code.padStart(2, '0')}` : `\\u${code.padStart(4, '0')}`;
  });
}
