/**
 * The zip archives that torch.save has written since PyTorch 1.6: entries stored without compression, zip64 where sizes
 * need it (PKWARE's APPNOTE.TXT, 4.3 and 4.5.3). Sizes come from the central directory and are checked against the file.
 */
import { crc32 } from 'node:zlib';
import { DAMAGED, readBytes, TorchFileError, type ByteSource } from './torch-source';

/** An entry as the central directory tells of it. */
export interface ZipEntry {
  /** Of its local header. */
  position: number;
  size: number;
  crc: number;
}

export const ZIP_MAGIC = 0x04034b50; // "PK\3\4" of the first local header
const END_MAGIC = 0x06054b50;
const END_BYTES = 22;
const LOCATOR_MAGIC = 0x07064b50;
const LOCATOR_BYTES = 20;
const END64_MAGIC = 0x06064b50;
const END64_BYTES = 56;
const ENTRY_MAGIC = 0x02014b50;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
const MAX_COMMENT = 65_535;
const MAX_DIRECTORY = 64 * 2 ** 20;
const ZIP64_EXTRA = 1;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Reads the names and places of all entries.
 * @throws TorchFileError for an archive that is damaged or no torch.save would write
 */
export async function readZipDirectory(source: ByteSource): Promise<Map<string, ZipEntry>> {
  const { file } = source;
  const { position, size, count } = await findDirectory(source);
  if (size > MAX_DIRECTORY) throw new TorchFileError(file, `the zip directory claims ${size} bytes. ${DAMAGED}`);
  const bytes = await readBytes(source, position, size, 'the zip directory');
  const view = viewOf(bytes);
  const entries = new Map<string, ZipEntry>();
  const damaged = (): never => {
    throw new TorchFileError(file, `the zip directory is malformed. ${DAMAGED}`);
  };
  let at = 0;
  for (let n = 0; n < count; n++) {
    if (at + ENTRY_BYTES > size || view.getUint32(at, true) !== ENTRY_MAGIC) return damaged();
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    const crc = view.getUint32(at + 16, true);
    const nameBytes = view.getUint16(at + 28, true);
    const extraBytes = view.getUint16(at + 30, true);
    const next = at + ENTRY_BYTES + nameBytes + extraBytes + view.getUint16(at + 32, true);
    if (next > size) return damaged();
    const nameAt = at + ENTRY_BYTES;
    const name = Buffer.from(bytes.subarray(nameAt, nameAt + nameBytes)).toString('utf8');
    const [unpacked, packed, local] = sizesOf(view, at, nameAt + nameBytes, extraBytes) ?? damaged();
    const shown = JSON.stringify(name.slice(0, 80));
    if (method !== 0 || flags & 1 || packed !== unpacked) {
      throw new TorchFileError(
        file,
        `entry ${shown} is compressed or encrypted, torch.save stores entries as they are. Save it again with torch.save.`,
      );
    }
    if (entries.has(name)) throw new TorchFileError(file, `holds two entries ${shown}. ${DAMAGED}`);
    entries.set(name, { position: local, size: unpacked, crc });
    at = next;
  }
  return entries;
}

/** Reads an entry and checks it against its checksum. */
export async function readZipEntry(
  source: ByteSource,
  name: string,
  { position, size, crc }: ZipEntry,
): Promise<Uint8Array<ArrayBuffer>> {
  const what = `entry ${JSON.stringify(name.slice(0, 80))}`;
  const header = viewOf(await readBytes(source, position, LOCAL_BYTES, what));
  if (header.getUint32(0, true) !== ZIP_MAGIC)
    throw new TorchFileError(source.file, `${what} is misplaced. ${DAMAGED}`);
  const begin = position + LOCAL_BYTES + header.getUint16(26, true) + header.getUint16(28, true);
  const bytes = await readBytes(source, begin, size, what);
  if (crc32(bytes) !== crc) throw new TorchFileError(source.file, `${what} does not fit its checksum. ${DAMAGED}`);
  return bytes;
}

/** Unpacked and packed size and position of an entry, from its zip64 field where the 32 bits are full. */
function sizesOf(view: DataView, at: number, extraAt: number, extraBytes: number): number[] | null {
  const values = [24, 20, 42].map((offset) => view.getUint32(at + offset, true));
  const end = extraAt + extraBytes;
  for (let field = extraAt; values.includes(0xffffffff) && field + 4 <= end;) {
    const fieldEnd = field + 4 + view.getUint16(field + 2, true);
    if (fieldEnd > end) return null;
    if (view.getUint16(field, true) === ZIP64_EXTRA) {
      let next = field + 4;
      for (const [i, value] of values.entries()) {
        if (value !== 0xffffffff) continue;
        if (next + 8 > fieldEnd) return null;
        values[i] = Number(view.getBigUint64(next, true));
        next += 8;
      }
      return values;
    }
    field = fieldEnd;
  }
  return values;
}

/** Where the central directory stands and how many entries it has. */
async function findDirectory(source: ByteSource): Promise<{ position: number; size: number; count: number }> {
  const tailBytes = Math.min(source.size, END_BYTES + MAX_COMMENT);
  const tailAt = source.size - tailBytes;
  const tail = viewOf(await readBytes(source, tailAt, tailBytes, 'the end of the zip archive'));
  let end = tailBytes - END_BYTES;
  // The comment that follows must reach exactly to the end of the file.
  const isEnd = (at: number) =>
    tail.getUint32(at, true) === END_MAGIC && at + END_BYTES + tail.getUint16(at + 20, true) === tailBytes;
  while (end >= 0 && !isEnd(end)) end--;
  if (end < 0) throw new TorchFileError(source.file, `the end of the zip archive is missing. ${DAMAGED}`);

  const locator = end - LOCATOR_BYTES;
  if (locator >= 0 && tail.getUint32(locator, true) === LOCATOR_MAGIC) {
    const position = Number(tail.getBigUint64(locator + 8, true));
    const end64 = viewOf(await readBytes(source, position, END64_BYTES, 'the zip64 directory'));
    if (end64.getUint32(0, true) !== END64_MAGIC) {
      throw new TorchFileError(source.file, `the zip64 directory is misplaced. ${DAMAGED}`);
    }
    const [count, size, at] = [32, 40, 48].map((offset) => Number(end64.getBigUint64(offset, true)));
    return { position: at, size, count };
  }
  return {
    position: tail.getUint32(end + 16, true),
    size: tail.getUint32(end + 12, true),
    count: tail.getUint16(end + 10, true),
  };
}
