/** @throws RangeError where `value` is no whole number from `least` up */
export function checkWhole(name: string, value: number, least: number, where = 'data'): void {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(`[${where}] expected ${name} to be a whole number from ${least} up, received ${value}`);
  }
}
