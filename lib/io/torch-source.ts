/** What the readers of torch.save's files share: bytes at a position, checked against the size, and their error. */
import { open, type FileHandle } from 'node:fs/promises';

/** A file that torch.save did not write, that is damaged, or that asks for more than a reader of data does. */
export class TorchFileError extends Error {
  override readonly name = 'TorchFileError';
  constructor(
    readonly file: string,
    problem: string,
  ) {
    super(`[torch] ${file}: ${problem}`);
  }
}

/** Bytes that are read piece by piece. */
export interface ByteSource {
  /** Named in errors. */
  readonly file: string;
  readonly size: number;
  /** A copy of `length` bytes, fewer where the source ends. Ask through {@link readBytes}, which checks the range. */
  read(position: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

export const DAMAGED = 'The file is damaged or was not written to its end: take another copy of it.';
const PIECE_BYTES = 64 * 2 ** 20;

/**
 * Bytes `position` to `position + length`, in a buffer of their own.
 * @throws TorchFileError where they do not lie in the file; nothing is allocated then
 */
export async function readBytes(
  source: ByteSource,
  position: number,
  length: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const { file, size } = source;
  const valid = Number.isSafeInteger(position) && Number.isSafeInteger(length) && position >= 0 && length >= 0;
  if (!valid || position + length > size) {
    throw new TorchFileError(
      file,
      `${what} stands at bytes ${position} to ${position + length}, but the file holds ${size}. ${DAMAGED}`,
    );
  }
  const bytes = await source.read(position, length);
  if (bytes.length !== length) throw new TorchFileError(file, `ended while ${what} was read. ${DAMAGED}`);
  return bytes;
}

/** Opens a file for as long as `use` runs. */
export async function withFileSource<T>(file: string, use: (source: ByteSource) => Promise<T>): Promise<T> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new TorchFileError(file, 'no such file. Check the path.');
    throw new TorchFileError(file, `cannot be opened (${code}). Check its permissions.`);
  }
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new TorchFileError(file, 'expected a file, found a folder or a device. Check the path.');
    return await use({ file, size: stats.size, read: (position, length) => readFrom(handle, position, length) });
  } finally {
    await handle.close();
  }
}

async function readFrom(handle: FileHandle, position: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(PIECE_BYTES, length - done), position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
