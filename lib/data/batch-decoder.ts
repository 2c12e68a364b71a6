/**
 * Decodes the files of a batch, a few at a time, off the main thread.
 */
import { BadImages, type BadImage } from './bad-images';
import { checkWhole } from './check-whole';
import { decodeImage, type DecodedImage } from './decode';
import { DataError } from './error';
import type { ImageFiles } from './folder';

/** How files are decoded; without effect on a store. */
export interface DecodeOptions {
  /**
   * Side of the pictures that the network gets. Files whose shorter side is over twice as long are scaled down to twice while
   * decoding: a random crop of a quarter of the area still has the resolution asked for, and large photographs load many times
   * faster. Default: files are decoded at full size.
   */
  readonly outputSize?: number;
  /** Batches decoded ahead. Default 3. */
  readonly prefetch?: number;
  /** Files decoded at once. Default 8. */
  readonly concurrency?: number;
  /** Share of files that may be bad (0 to 1) before the run fails. Default 0.01. */
  readonly maxBadShare?: number;
  /** Told of each bad file once. */
  readonly onBad?: (bad: BadImage) => void;
}

/** The pictures of one batch, see the loader's Batch. */
export interface DecodedBatch {
  readonly indices: Int32Array;
  readonly pixels: Uint8Array;
  readonly offsets: BigInt64Array;
  readonly sizes: Int32Array;
  readonly labels: Int32Array | null;
}

export class BatchDecoder {
  private readonly bad: BadImages;
  private readonly shrinkTo: number | undefined;
  private free: number;
  private readonly waiting: (() => void)[] = [];
  private stopped = false;

  constructor(
    private readonly files: ImageFiles,
    options: DecodeOptions,
  ) {
    const { maxBadShare = 0.01, concurrency = 8, outputSize, onBad } = options;
    checkWhole('concurrency', concurrency, 1);
    if (outputSize !== undefined) checkWhole('outputSize', outputSize, 1);
    this.bad = new BadImages(files.paths.length, maxBadShare, onBad);
    this.shrinkTo = outputSize && 2 * outputSize;
    this.free = concurrency;
  }

  /** No file is opened any more; batches under way fail. */
  stop(): void {
    this.stopped = true;
    for (const wake of this.waiting.splice(0)) wake();
  }

  /** The pictures of these indices, or in place of bad ones the next good ones (`indices` and `labels` say which). */
  async decode(wanted: Int32Array): Promise<DecodedBatch> {
    const images = await Promise.all(Array.from(wanted, (index) => this.goodImage(index)));
    const indices = Int32Array.from(images, ({ index }) => index);
    const offsets = new BigInt64Array(images.length);
    const sizes = new Int32Array(images.length * 2);
    const pixels = new Uint8Array(images.reduce((sum, { image }) => sum + image.pixels.length, 0));
    let offset = 0;
    images.forEach(({ image }, i) => {
      pixels.set(image.pixels, offset);
      offsets[i] = BigInt(offset);
      sizes.set([image.height, image.width], i * 2);
      offset += image.pixels.length;
    });
    const labels = this.files.labels && indices.map((index) => this.files.labels![index]);
    return { indices, pixels, offsets, sizes, labels };
  }

  private async goodImage(first: number): Promise<{ index: number; image: DecodedImage }> {
    const { paths } = this.files;
    for (let tried = 0; tried < paths.length; tried++) {
      const index = (first + tried) % paths.length;
      try {
        return { index, image: await this.inTurn(() => decodeImage(paths[index], { shrinkTo: this.shrinkTo })) };
      } catch (error) {
        this.bad.add(error);
      }
    }
    throw new DataError(`[data] none of ${paths.length} files is a picture, such as ${paths[0]}`);
  }

  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    while (this.free === 0 && !this.stopped) await new Promise<void>((wake) => this.waiting.push(wake));
    if (this.stopped) throw new DataError('[data] the loader was stopped');
    this.free--;
    try {
      return await work();
    } finally {
      this.free++;
      this.waiting.shift()?.();
    }
  }
}
