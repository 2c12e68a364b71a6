/**
 * Decodes picture files to 8-bit RGB through sharp (libvips).
 *
 * Grey becomes RGB, transparency is laid on white, EXIF orientation is applied, CMYK and 16 bits per channel become 8-bit
 * sRGB. Any doubt that the decoder has about a file (sharp's `failOn: 'warning'`) makes it a bad one: a picture half grey
 * from a truncated file would be learnt in silence.
 */
import { readFile } from 'node:fs/promises';
import sharp from 'sharp';

// One thread per picture, since several are decoded at once; nothing is read twice, so nothing is cached.
sharp.concurrency(1);
sharp.cache(false);

/** Height x width x RGB, row-major. */
export interface DecodedImage {
  readonly pixels: Uint8Array;
  readonly height: number;
  readonly width: number;
}

export interface ImageSize {
  readonly height: number;
  readonly width: number;
}

/** A file that is no whole picture; `reason` is short, for a list. */
export class BadImageError extends Error {
  override readonly name = 'BadImageError';
  constructor(
    readonly file: string,
    readonly reason: string,
  ) {
    super(`[data] ${file} is no usable picture: ${reason}`);
  }
}

/**
 * @param options.shrinkTo pictures whose shorter side is longer than this many pixels are scaled down to it while decoding,
 *   which is many times faster for large photographs. Default: full size.
 * @throws BadImageError if the file is missing, empty, truncated, corrupt, no picture, or over sharp's limit of 268 million
 *   pixels.
 */
export async function decodeImage(file: string, options: { readonly shrinkTo?: number } = {}): Promise<DecodedImage> {
  try {
    const bytes = await readFile(file); // faster than letting libvips open the file
    let image = sharp(bytes).autoOrient();
    const size = options.shrinkTo === undefined ? null : shrink(await orientedSize(bytes), options.shrinkTo);
    if (size) image = image.resize({ ...size, fit: 'fill' });
    const { data, info } = await image
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`decoded to ${info.channels} channels`);
    return { pixels: data, height: info.height, width: info.width };
  } catch (error) {
    throw badImage(file, error);
  }
}

/** Height and width as decoded, from the file's header alone. */
export async function imageSize(file: string): Promise<ImageSize> {
  try {
    return await orientedSize(file);
  } catch (error) {
    throw badImage(file, error);
  }
}

/** The size with its shorter side at `shorter`, or null if the picture is not larger. */
export function shrink({ height, width }: ImageSize, shorter: number): ImageSize | null {
  const factor = shorter / Math.min(height, width);
  return factor < 1 ? { height: Math.round(height * factor), width: Math.round(width * factor) } : null;
}

async function orientedSize(input: string | Buffer): Promise<ImageSize> {
  const { height, width } = (await sharp(input).metadata()).autoOrient;
  return { height, width };
}

function badImage(file: string, error: unknown): BadImageError {
  const reason = (error as Error).message.replaceAll(file, 'file').replace(/\s+/g, ' ').trim();
  return new BadImageError(file, reason.slice(0, 160));
}
