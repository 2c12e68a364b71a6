/** The paper's. */
export const DEFAULT_WIDTHS: readonly number[] = [1, 0.75, 0.5, 0.25];

/**
 * Checks the widths of a slimmable network: each in (0, 1], the full network (1) first, then strictly descending.
 * @throws RangeError that shows the list as it should be
 */
export function checkWidths(widths: readonly number[]): readonly number[] {
  const wrong = widths.find((w) => !(w > 0 && w <= 1));
  if (wrong !== undefined) throw new RangeError(`[widths] expected numbers in (0, 1], received ${wrong}`);
  const expected = [...new Set([1, ...widths])].sort((a, b) => b - a);
  if (expected.length !== widths.length || expected.some((w, i) => w !== widths[i])) {
    throw new RangeError(
      `[widths] expected distinct widths in descending order that start with 1, ` +
        `received [${widths.join(', ')}]; use [${expected.join(', ')}]`,
    );
  }
  return widths;
}

/**
 * Channels of every width: `int(channels · w)`, the slice that a sub-network uses.
 * The small addend keeps products such as 100 · 0.29 = 28.999… from losing a channel.
 */
export function slimChannels(channels: number, widths: readonly number[]): number[] {
  return widths.map((w) => {
    const n = Math.floor(channels * w + 1e-9);
    if (n < 1)
      throw new RangeError(`[widths] width ${w} leaves none of ${channels} channels; use a larger width or base`);
    return n;
  });
}

/** The same number of channels at every width: images, embeddings, classes. */
export function fixedChannels(channels: number, widths: readonly number[]): number[] {
  return widths.map(() => channels);
}

/**
 * What the width of an index has in a list of one entry for every width.
 * @throws RangeError for an index that there is not, such as a width itself
 */
export function atWidth<T>(op: string, entries: readonly T[], widthIndex: number): T {
  const entry = entries[widthIndex] as T | undefined;
  if (entry === undefined) {
    throw new RangeError(
      `[${op}] expected the index of one of ${entries.length} widths, 0 for the full network, received ${widthIndex}`,
    );
  }
  return entry;
}
