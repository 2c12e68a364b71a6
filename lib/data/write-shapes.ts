import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import sharp from 'sharp';
import { DataError } from './error';
import type { ImageStore } from './image-store';
import { generateShapes, type ShapesOptions } from './shapes';

/** Written beside the pictures: what they were made with. Marks a folder that may be replaced. */
const markName = 'shapes.json';
const names = ['train', 'test', markName];

/**
 * Writes generated pictures as an image folder: `DIR/train/CLASS/*.png` and `DIR/test/CLASS/*.png`. They are written into
 * a folder beside it, which takes the name when all are there; earlier generated pictures are replaced as a whole.
 *
 * @param options as for {@link generateShapes}; `count` pictures for training, and `testCount` that follow them for testing
 * @throws DataError where other files are in the folder, or the pictures cannot be written; then the folder is as it was
 */
export async function writeShapes(dir: string, options: ShapesOptions & { readonly testCount: number }): Promise<void> {
  const { count, testCount, first = 0 } = options;
  const target = resolve(dir);
  const found = existsSync(target) ? await readdir(target) : [];
  const other = found.includes(markName) ? found.find((name) => !names.includes(name)) : found[0];
  if (other !== undefined) {
    throw new DataError(`[shapes] ${dir} holds other files (${other}, …). Choose another folder.`);
  }
  const written = { pictures: 0, bytes: 0 };
  let temporary: string | undefined;
  try {
    await mkdir(dirname(target), { recursive: true });
    temporary = await mkdtemp(`${target}.`);
    await chmod(temporary, 0o777 & ~process.umask());
    await writeSplit(join(temporary, 'train'), generateShapes(options), written);
    await writeSplit(
      join(temporary, 'test'),
      generateShapes({ ...options, count: testCount, first: first + count }),
      written,
    );
    await writeFile(join(temporary, markName), `${JSON.stringify(options)}\n`);
    if (found.length > 0) await rm(target, { recursive: true });
    await rename(temporary, target);
  } catch (error) {
    if (temporary) await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw explain(error, dir, count + testCount, written);
  }
}

async function writeSplit(dir: string, store: ImageStore, written: { pictures: number; bytes: number }): Promise<void> {
  await Promise.all(store.classes.map((name) => mkdir(join(dir, name), { recursive: true })));
  for (let i = 0; i < store.offsets.length; i++) {
    const [height, width] = store.sizes.subarray(2 * i, 2 * i + 2);
    const begin = Number(store.offsets[i]);
    const picture = sharp(store.pixels.subarray(begin, begin + height * width * 3), {
      raw: { width, height, channels: 3 },
    });
    const png = await picture.png().toBuffer();
    written.bytes += Math.ceil(png.length / blockBytes) * blockBytes;
    await writeFile(join(dir, store.classes[store.labels![i]], `${String(i).padStart(6, '0')}.png`), png);
    written.pictures++;
  }
}

/** What a small file takes on most disks. */
const blockBytes = 4096;

function explain(error: unknown, dir: string, total: number, written: { pictures: number; bytes: number }): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return error;
  const reasons: Record<string, string> = { ENOSPC: 'the disk is full', EDQUOT: 'the disk quota is used up' };
  // The one that failed is among the bytes.
  const needed = Math.ceil((total * (written.bytes / (written.pictures + 1) || blockBytes)) / 2 ** 20);
  return new DataError(
    `[shapes] cannot write ${total} pictures into ${dir}: ${reasons[code] ?? message} after ${written.pictures} of them; ` +
      `they need about ${needed} MiB in all. Free space for ${dirname(resolve(dir))} or choose another folder.`,
  );
}
