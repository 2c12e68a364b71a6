/**
 * Philox4x32-10, a counter-based random number generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011): a number depends on its key and counter alone, so that any place of a sequence can be reached without the ones
 * before it, and a resumed run draws what the uninterrupted one would have drawn.
 */

/** What the numbers are drawn for; each purpose has numbers of its own. */
export const RandomStream = {
  order: 0x0d01,
  subset: 0x0d02,
  shapes: 0x0d03,
  sample: 0x0d04,
  batchShuffle: 0x0d05,
} as const;

/** One block: four 32-bit words from a counter of four words and a key of two, written into `out`. */
export function philox4x32(
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
  out: Uint32Array,
): void {
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, c0);
    const high1 = multiplyHigh(0xcd9e8d57, c2);
    const low0 = Math.imul(0xd2511f53, c0);
    const low1 = Math.imul(0xcd9e8d57, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** The upper 32 bits of a 64-bit product, by halves of 16 bits: each partial product is exact in a double. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = (middle & 0xffff) + aLow * bHigh;
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) | 0;
}

/** A sequence of random numbers: number `n` of (seed, stream, index) is always the same. */
export class Philox {
  private readonly block = new Uint32Array(4);
  private readonly keyLow: number;
  private readonly keyHigh: number;
  private used = 4;
  private counter = 0;

  /**
   * @param seed whole number from 0 to 2^53 - 1, the key
   * @param stream what the numbers are for, see {@link RandomStream}
   * @param index which sequence of this stream: an epoch, a picture
   */
  constructor(
    seed: number,
    private readonly stream: number,
    private readonly index = 0,
  ) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new RangeError(`[philox] expected a seed that is a whole number from 0 to 2^53 - 1, received ${seed}`);
    }
    this.keyLow = seed >>> 0;
    this.keyHigh = Math.floor(seed / 2 ** 32);
  }

  /** A whole number from 0 to 2^32 - 1. */
  uint32(): number {
    if (this.used === 4) {
      philox4x32(this.counter++, 0, this.index, this.stream, this.keyLow, this.keyHigh, this.block);
      this.used = 0;
    }
    return this.block[this.used++];
  }

  /** A number from `low` (included) to `high`. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.uint32() / 2 ** 32);
  }

  /** A whole number from 0 to `n` - 1 (n up to 2^32; the odds of two numbers differ by less than n / 2^32). */
  below(n: number): number {
    return Math.floor((this.uint32() / 2 ** 32) * n);
  }
}

/** The whole numbers 0 … n - 1 in random order (Fisher-Yates). */
export function permutation(n: number, random: Philox): Int32Array {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i < n - 1; i++) {
    const j = i + random.below(n - i);
    const taken = order[j];
    order[j] = order[i];
    order[i] = taken;
  }
  return order;
}
