import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import type { ImageStore } from './image-store';
import { generateShapes, type ShapesOptions } from './shapes';

/**
 * Writes generated pictures as an image folder: `DIR/train/CLASS/*.png` and `DIR/test/CLASS/*.png`.
 *
 * @param options as for {@link generateShapes}; `count` pictures for training, and `testCount` that follow them for testing
 */
export async function writeShapes(dir: string, options: ShapesOptions & { readonly testCount: number }): Promise<void> {
  const { count, testCount, first = 0 } = options;
  await writeSplit(join(dir, 'train'), generateShapes(options));
  await writeSplit(join(dir, 'test'), generateShapes({ ...options, count: testCount, first: first + count }));
}

async function writeSplit(dir: string, store: ImageStore): Promise<void> {
  await Promise.all(store.classes.map((name) => mkdir(join(dir, name), { recursive: true })));
  for (let i = 0; i < store.offsets.length; i++) {
    const [height, width] = store.sizes.subarray(2 * i, 2 * i + 2);
    const begin = Number(store.offsets[i]);
    const picture = sharp(store.pixels.subarray(begin, begin + height * width * 3), {
      raw: { width, height, channels: 3 },
    });
    await picture.png().toFile(join(dir, store.classes[store.labels![i]], `${String(i).padStart(6, '0')}.png`));
  }
}
