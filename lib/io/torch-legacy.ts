/**
 * The stream that torch.save wrote before PyTorch 1.6: four pickles (a magic number, the protocol, the system, the value),
 * a pickled list of storage keys, then each storage's number of elements (int64) and its bytes.
 */
import { itemBytes } from './safetensors';
import { unpickle, type PickleValue, type TorchStorage } from './torch-pickle';
import { DAMAGED, readBytes, TorchFileError, type ByteSource } from './torch-source';

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;

/** The value of the file, and where the bytes of each storage stand. */
export interface LegacyFile {
  value: PickleValue;
  positions: ReadonlyMap<TorchStorage, number>;
}

/** Whether bytes begin as the legacy format does. */
export function isLegacy(file: string, head: Uint8Array): boolean {
  try {
    return unpickle(file, head).value === MAGIC;
  } catch {
    return false;
  }
}

/**
 * @param maxPickleBytes the pickles must end before
 * @throws TorchFileError
 */
export async function readLegacy(source: ByteSource, maxPickleBytes: number): Promise<LegacyFile> {
  const { file } = source;
  const bytes = await readBytes(source, 0, Math.min(source.size, maxPickleBytes), 'the pickled part');
  const magic = unpickle(file, bytes);
  const protocol = unpickle(file, bytes, magic.end);
  if (protocol.value !== PROTOCOL) {
    throw new TorchFileError(file, `expected torch.save's protocol ${PROTOCOL}, found another. ${DAMAGED}`);
  }
  const system = unpickle(file, bytes, protocol.end);
  if (!(system.value instanceof Map) || system.value.get('little_endian') !== true) {
    throw new TorchFileError(file, 'was written on a big-endian machine. Save it again on a little-endian one.');
  }
  const main = unpickle(file, bytes, system.end);
  const keys = unpickle(file, bytes, main.end);
  if (!Array.isArray(keys.value)) throw new TorchFileError(file, `the list of storages is malformed. ${DAMAGED}`);

  const positions = new Map<TorchStorage, number>();
  let at = keys.end;
  for (const key of keys.value) {
    const storage = typeof key === 'string' ? main.storages.get(key) : undefined;
    if (!storage || positions.has(storage)) {
      throw new TorchFileError(file, `lists a storage that is unknown or already there. ${DAMAGED}`);
    }
    const header = await readBytes(source, at, 8, 'the size of a storage');
    const length = new DataView(header.buffer).getBigInt64(0, true);
    if (length !== BigInt(storage.length)) {
      throw new TorchFileError(file, `a storage of ${storage.length} elements says it has ${length}. ${DAMAGED}`);
    }
    positions.set(storage, at + 8);
    at += 8 + storage.length * itemBytes(storage.dtype);
  }
  return { value: main.value, positions };
}
