/**
 * A data set of small pictures in memory: 8-bit RGB of any sizes, one behind the other in one buffer.
 */
import { BadImages, type BadImage } from './bad-images';
import { checkWhole } from './check-whole';
import { BadImageError, decodeImage, imageSize, shrink, type DecodedImage } from './decode';
import { DataError } from './error';
import type { ImageFiles } from './folder';
import { permutation, Philox, RandomStream } from './philox';

export interface ImageStore {
  /** Height x width x RGB of every picture. */
  readonly pixels: Uint8Array;
  /** [N]: where each picture begins in `pixels`. */
  readonly offsets: BigInt64Array;
  /** [N, 2]: height and width of each. */
  readonly sizes: Int32Array;
  /** [N], null for pictures without classes. */
  readonly labels: Int32Array | null;
  readonly classes: readonly string[];
  /** [N], for pictures from files. */
  readonly paths?: readonly string[];
}

export interface LoadOptions {
  /** Share of files that may be bad (0 to 1) before loading fails. Default 0.01. */
  readonly maxBadShare?: number;
  /** Pictures with a longer shorter side are scaled down to it while decoding. Default: full size. */
  readonly shrinkTo?: number;
  /** Files decoded at once. Default 8. */
  readonly concurrency?: number;
  readonly onProgress?: (done: number, total: number) => void;
  /** Told of each bad file once. */
  readonly onBad?: (bad: BadImage) => void;
}

/** Up to this many bytes of decoded pixels are kept in memory, unless told otherwise: 2 GiB. */
export const MAX_STORE_BYTES = 2 * 2 ** 30;

/** Files looked at to estimate the size of all. */
const SAMPLES = 64;

/**
 * A random subset of `limit` files: the first ones of a permutation that depends on the seed and the number of files alone.
 * Kept in the folder's order. With as many or fewer files, all of them.
 */
export function limitFiles(files: ImageFiles, limit: number, seed: number): ImageFiles {
  checkWhole('limit', limit, 1);
  if (limit >= files.paths.length) return files;
  const chosen = permutation(files.paths.length, new Philox(seed, RandomStream.subset)).slice(0, limit).sort();
  return {
    paths: Array.from(chosen, (i) => files.paths[i]),
    labels: files.labels && chosen.map((i) => files.labels![i]),
    classes: files.classes,
  };
}

/** Bytes of all pictures decoded, judged by the headers of up to 64 of them. */
export async function estimateBytes(files: ImageFiles, options: { readonly shrinkTo?: number } = {}): Promise<number> {
  const chosen = permutation(files.paths.length, new Philox(0, RandomStream.sample)).subarray(0, SAMPLES);
  let bytes = 0;
  let known = 0;
  for (const i of chosen) {
    const size = await imageSize(files.paths[i]).catch(() => null); // a bad file is reported when it is decoded
    if (!size) continue;
    const { height, width } = (options.shrinkTo && shrink(size, options.shrinkTo)) || size;
    bytes += height * width * 3;
    known++;
  }
  return Math.round((bytes / Math.max(1, known)) * files.paths.length);
}

/**
 * Decodes all files into memory if they take up to `maxBytes` (default 2 GiB); larger sets are left to be decoded batch by batch.
 */
export async function openImages(
  files: ImageFiles,
  options: LoadOptions & { readonly maxBytes?: number } = {},
): Promise<{ source: ImageStore | ImageFiles; bad: readonly BadImage[] }> {
  const { maxBytes = MAX_STORE_BYTES } = options;
  if ((await estimateBytes(files, options)) > maxBytes) return { source: files, bad: [] };
  const { store, bad } = await loadImages(files, options);
  return { source: store, bad };
}

/**
 * Decodes all files into memory, in their order.
 *
 * @returns the store, and the bad files that were left out of it
 * @throws DataError if too many files are bad, or none is good.
 */
export async function loadImages(
  files: ImageFiles,
  options: LoadOptions = {},
): Promise<{ store: ImageStore; bad: readonly BadImage[] }> {
  const { maxBadShare = 0.01, shrinkTo, concurrency = 8, onProgress, onBad } = options;
  checkWhole('concurrency', concurrency, 1);
  const total = files.paths.length;
  const bad = new BadImages(total, maxBadShare, onBad);
  const pixels = new PixelBuffer(await estimateBytes(files, { shrinkTo }));
  const kept: number[] = [];
  const offsets: number[] = [];
  const sizes: number[] = [];

  const ahead: Promise<DecodedImage | BadImageError>[] = []; // in the files' order, which makes the store the same each time
  let started = 0;
  for (let i = 0; i < total; i++) {
    for (; started < total && ahead.length < concurrency; started++) {
      ahead.push(decodeImage(files.paths[started], { shrinkTo }).catch((error: BadImageError) => error));
    }
    const image = await ahead.shift()!;
    if (image instanceof BadImageError) bad.add(image);
    else {
      offsets.push(pixels.append(image.pixels));
      sizes.push(image.height, image.width);
      kept.push(i);
    }
    onProgress?.(i + 1, total);
  }
  if (kept.length === 0) {
    throw new DataError(`[data] none of ${total} files is a picture: ${bad.list[0]?.reason ?? 'no files given'}`);
  }
  const store: ImageStore = {
    pixels: pixels.bytes(),
    offsets: BigInt64Array.from(offsets, BigInt),
    sizes: Int32Array.from(sizes),
    labels: files.labels && Int32Array.from(kept, (i) => files.labels![i]),
    classes: files.classes,
    paths: kept.map((i) => files.paths[i]),
  };
  return { store, bad: bad.list };
}

/** Bytes appended to a buffer that grows by halves. */
class PixelBuffer {
  private buffer: Uint8Array;
  private length = 0;

  constructor(expected: number) {
    this.buffer = new Uint8Array(expected);
  }

  /** Returns where the bytes begin. */
  append(bytes: Uint8Array): number {
    const offset = this.length;
    if (offset + bytes.length > this.buffer.length) {
      const grown = new Uint8Array(Math.ceil((offset + bytes.length) * 1.5));
      grown.set(this.buffer.subarray(0, offset));
      this.buffer = grown;
    }
    this.buffer.set(bytes, offset);
    this.length += bytes.length;
    return offset;
  }

  bytes(): Uint8Array {
    return this.length === this.buffer.length ? this.buffer : this.buffer.slice(0, this.length);
  }
}
