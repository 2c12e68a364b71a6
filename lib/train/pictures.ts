import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import {
  decodeImage,
  imageCount,
  limitFiles,
  openImages,
  type BadImage,
  type ImageFiles,
  type ImageFolder,
  type ImageSource,
} from '../data';
import type { Report } from './report';

/** Pictures to train on and, where they have classes, to test on. */
export interface Pictures {
  train: ImageSource;
  /** Null where there are none, or none with classes: then nothing can be evaluated. */
  test: ImageSource | null;
  classes: readonly string[];
}

/** Files decoded at once. */
export const decodeConcurrency = Math.max(4, availableParallelism());

/** Pictures looked at to choose the defaults that depend on their size. */
const sampleCount = 16;

/** The longest side among some pictures of a source, in pixels. */
export async function longestSide(source: ImageSource): Promise<number> {
  if ('pixels' in source) return source.sizes.reduce((longest, side) => Math.max(longest, side), 0);
  const count = imageCount(source);
  const samples = Math.min(count, sampleCount);
  const chosen = Array.from({ length: samples }, (_, i) => source.paths[Math.floor((i * count) / samples)]);
  // Bad ones are told of when the pictures are loaded.
  const images = await Promise.all(chosen.map((path) => decodeImage(path).catch(() => null)));
  return Math.max(0, ...images.map((image) => (image ? Math.max(image.height, image.width) : 0)));
}

/**
 * Decodes a folder's pictures into memory where they fit, else leaves them to be decoded batch by batch.
 * @param image side that the network gets; larger pictures are kept at twice that
 * @param limit train on so many, 0: on all
 * @throws DataError where too many files are no pictures
 */
export async function loadPictures(
  folder: ImageFolder,
  { image, limit, seed }: { image: number; limit: number; seed: number },
  report: Report,
): Promise<Pictures> {
  const { count, examples } = folder.others;
  if (count > 0) {
    const shown = `${examples.join(', ')}${count > examples.length ? ', …' : ''}`;
    report({
      type: 'message',
      text: `passed over ${count} ${count === 1 ? 'file that is' : 'files that are'} no JPEG, PNG or WebP by name: ${shown}`,
    });
  }
  const load = async (files: ImageFiles, purpose: string): Promise<ImageSource> => {
    let told = performance.now();
    const { source } = await openImages(files, {
      shrinkTo: 2 * image,
      concurrency: decodeConcurrency,
      onBad: (bad) => reportBad(bad, report),
      onProgress: (done, total) => {
        if (performance.now() - told < 5000) return;
        told = performance.now();
        report({ type: 'message', text: `reading pictures to ${purpose} on: ${done} of ${total}` });
      },
    });
    const place =
      'pixels' in source ? `${Math.ceil(source.pixels.length / 2 ** 20)} MiB in memory` : 'decoded as needed';
    report({ type: 'message', text: `${imageCount(source)} pictures to ${purpose} on (${place})` });
    return source;
  };
  const train = await load(limit ? limitFiles(folder.train, limit, seed) : folder.train, 'train');
  const test = folder.test?.labels ? await load(folder.test, 'test') : null;
  return { train, test, classes: folder.classes };
}

/** Tells of a file that is left out. */
export function reportBad({ file, reason }: BadImage, report: Report): void {
  report({ type: 'message', text: `left out: ${file}: ${reason}` });
}

/** Tells two sets of pictures apart, by their number, names and sizes; those without names by their pixels. */
export function digestOf(source: ImageSource, root: string): string {
  const hash = createHash('sha256').update(`${imageCount(source)}\n`);
  for (const path of source.paths ?? []) hash.update(`${relative(root, path)}\n`);
  if ('pixels' in source) {
    hash.update(source.sizes);
    if (!source.paths) hash.update(source.pixels);
  }
  return hash.digest('hex');
}
