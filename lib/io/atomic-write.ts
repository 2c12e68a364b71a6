/**
 * Replaces a file as a whole or not at all: the bytes go to a temporary file beside it, are synced, and take its name.
 *
 * The temporary is always `FILE.tmp`: one left by a killed process is overwritten by the next write, so that none pile up.
 */
import { existsSync, realpathSync } from 'node:fs';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';

/** A file that could not be written; the file that stood there before is as it was. `code` is the system's (`ENOSPC`). */
export class WriteError extends Error {
  override readonly name = 'WriteError';
  constructor(
    readonly file: string,
    readonly code: string,
    message: string,
  ) {
    super(`[write] ${file}: ${message}`);
  }
}

const PIECE_BYTES = 64 * 2 ** 20;

/** The last write of this process to each file, so that two at once take turns. */
const turns = new Map<string, Promise<void>>();

/**
 * Writes `chunks` one after the other as the new content of `file`.
 *
 * @throws WriteError if the disk is full, the folder is missing or read-only, … An error thrown by `chunks` is passed on.
 *   In either case the temporary is gone and the former file whole.
 */
export async function atomicWrite(
  file: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const target = resolve(file);
  const before = turns.get(target) ?? Promise.resolve();
  const write = before.then(() => replaceFile(target, chunks));
  const turn = write.catch(() => {}); // the next one need not know how this one ended
  turns.set(target, turn);
  try {
    await write;
  } finally {
    if (turns.get(target) === turn) turns.delete(target);
  }
}

/** @throws WriteError where writing `output` would replace one of the files that are read for it */
export function checkOutput(output: string, ...inputs: readonly string[]): void {
  const place = (file: string) => (existsSync(file) ? realpathSync(file) : resolve(file));
  if (inputs.some((input) => place(input) === place(output))) {
    throw new WriteError(output, 'EEXIST', 'would replace the file that is read. Choose another output.');
  }
}

async function replaceFile(target: string, chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = `${target}.tmp`;
  let written = 0;
  let handle: FileHandle | null = null;
  try {
    const former = await stat(target).catch(() => null);
    // Renamed over a device or a pipe, the file would stand in its place, even in that of /dev/null.
    if (former && !former.isFile() && !former.isDirectory()) {
      throw new WriteError(
        target,
        'EINVAL',
        'is a device or a pipe, which cannot be replaced. Give the name of a file.',
      );
    }
    await rm(temporary, { force: true });
    handle = await open(temporary, 'wx');
    for await (const chunk of chunks) {
      for (let done = 0; done < chunk.length;) {
        const { bytesWritten } = await handle.write(chunk, done, Math.min(PIECE_BYTES, chunk.length - done));
        done += bytesWritten;
        written += bytesWritten;
      }
    }
    await handle.sync();
    if (!(await isOurs(handle, temporary))) {
      throw new WriteError(
        target,
        'EBUSY',
        `another process is writing this file at the same time. Stop one of the two.`,
      );
    }
    await rename(temporary, target);
  } catch (error) {
    if (handle && (await isOurs(handle, temporary))) await rm(temporary, { force: true }).catch(() => {});
    throw explain(error, target, written);
  } finally {
    await handle?.close().catch(() => {}); // it was synced, or its error is already on the way
  }
  await syncFolder(dirname(target));
}

/** Whether the name still leads to the file behind the handle. */
async function isOurs(handle: FileHandle, name: string): Promise<boolean> {
  const [ours, named] = await Promise.all([handle.stat(), stat(name).catch(() => null)]);
  return named !== null && named.ino === ours.ino && named.dev === ours.dev;
}

/** Puts the new name on the disk. File systems that cannot sync a folder say EINVAL or the like; nothing is lost then. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => null);
  await handle?.sync().catch(() => {});
  await handle?.close().catch(() => {});
}

function explain(error: unknown, target: string, written: number): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (error instanceof WriteError || typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return error;
  const folder = dirname(target);
  const advice: Record<string, string> = {
    ENOSPC: `the disk is full (after ${written} bytes). Free space for ${folder} or choose another folder`,
    EDQUOT: `the disk quota is used up (after ${written} bytes). Free space in ${folder} or choose another folder`,
    EFBIG: `the file would be over the size allowed (after ${written} bytes). Raise the limit (ulimit -f) or choose another disk`,
    ENOENT: `the folder ${folder} does not exist. Create it or correct the path`,
    ENOTDIR: `${folder} is no folder. Correct the path`,
    EISDIR: `a folder of this name is in the way. Remove it or choose another name than ${basename(target)}`,
    EACCES: `permission denied. Make ${folder} writable or choose another folder`,
    EPERM: `permission denied. Make ${folder} writable or choose another folder`,
    EROFS: `the disk is read-only. Choose another folder than ${folder}`,
  };
  const message = advice[code] ?? `could not be written (${(error as Error).message}). Check the disk`;
  const wrapped = new WriteError(target, code, `${message}; what was there before is unchanged.`);
  wrapped.cause = error;
  return wrapped;
}
