/** State dicts from files of torch.save, in both of its formats, without Python and without executing anything. */
import { arrayOver, itemBytes, type SafetensorsTensor } from './safetensors';
import { isLegacy, readLegacy } from './torch-legacy';
import { TorchTensor, unpickle, type PickleValue, type TorchStorage } from './torch-pickle';
import { DAMAGED, readBytes, TorchFileError, withFileSource, type ByteSource } from './torch-source';
import { readZipDirectory, readZipEntry, ZIP_MAGIC } from './torch-zip';

/** The weights in a file of torch.save. */
export interface TorchCheckpoint {
  format: 'zip' | 'legacy';
  /** What stands beside the weights and is a finite number, a short text, true or false: `epoch`, `arch`, … */
  settings: Record<string, number | string | boolean>;
  /** By the names in the file, row-major whatever their strides were. */
  tensors: Map<string, SafetensorsTensor>;
}

/** Pickles of released checkpoints take less than 1 MiB. */
const MAX_PICKLE = 32 * 2 ** 20;
const HEAD_BYTES = 64;
/** Of the bytes of the file: tensors may share storages, but not so that a small file fills the memory. */
const MAX_EXPANSION = 2;
const MAX_NAME = 1000;

/**
 * Reads the state dict of a checkpoint: the dict under `state_dict` or `model`, else the whole dict.
 * @throws TorchFileError for a file that is no such checkpoint, damaged, or that asks for anything but weights
 */
export async function readTorchCheckpoint(file: string): Promise<TorchCheckpoint> {
  return withFileSource(file, parseTorchCheckpoint);
}

/** As {@link readTorchCheckpoint}, of bytes anywhere. */
export async function parseTorchCheckpoint(source: ByteSource): Promise<TorchCheckpoint> {
  const { format, value, readStorage } = await openCheckpoint(source);
  if (!(value instanceof Map))
    throw new TorchFileError(source.file, 'expected a dict of weights, found another value.');
  const inner = value.get('state_dict') ?? value.get('model');
  const state = inner instanceof Map ? inner : value;

  const described = [...state].filter((entry): entry is [string, TorchTensor] => {
    return typeof entry[0] === 'string' && entry[1] instanceof TorchTensor;
  });
  if (described.length === 0)
    throw new TorchFileError(source.file, 'expected a dict of weights, found no tensor in it.');
  if (described.some(([name]) => name.length > MAX_NAME || /\p{Cc}/u.test(name))) {
    throw new TorchFileError(source.file, 'the name of a tensor is too long or holds control characters.');
  }
  const ofTensors = described.map(([, t]) => elementCount(t.shape) * itemBytes(t.storage.dtype));
  const ofStorages = [...new Set(described.map(([, t]) => t.storage))].map((s) => s.length * itemBytes(s.dtype));
  for (const sizes of [ofTensors, ofStorages]) {
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    if (bytes <= MAX_EXPANSION * source.size) continue;
    throw new TorchFileError(source.file, `its tensors would take ${bytes} bytes, but the file holds ${source.size}.`);
  }

  const storages = new Map<TorchStorage, Uint8Array<ArrayBuffer>>();
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [name, tensor] of described) {
    const { storage } = tensor;
    if (!storages.has(storage)) storages.set(storage, await readStorage(storage));
    tensors.set(name, materialise(tensor, storages.get(storage)!));
  }
  const settings = inner instanceof Map ? [...value].filter(isSetting) : [];
  return { format, settings: Object.fromEntries(settings), tensors };
}

interface OpenCheckpoint {
  format: TorchCheckpoint['format'];
  value: PickleValue;
  readStorage: (storage: TorchStorage) => Promise<Uint8Array<ArrayBuffer>>;
}

async function openCheckpoint(source: ByteSource): Promise<OpenCheckpoint> {
  const head = await readBytes(source, 0, Math.min(source.size, HEAD_BYTES), 'the beginning');
  if (head.length >= 4 && new DataView(head.buffer).getUint32(0, true) === ZIP_MAGIC) return openZip(source);
  if (isLegacy(source.file, head)) return openLegacy(source);
  throw new TorchFileError(
    source.file,
    'is no file of torch.save: neither a zip archive nor the stream of PyTorch before 1.6. Check the path.',
  );
}

async function openZip(source: ByteSource): Promise<OpenCheckpoint> {
  const { file } = source;
  const entries = await readZipDirectory(source);
  const pickleName = [...entries.keys()].find((name) => /^[^/]*\/data\.pkl$/.test(name));
  if (pickleName === undefined) {
    throw new TorchFileError(file, 'is a zip archive without data.pkl: no file of torch.save. Check the path.');
  }
  const folder = pickleName.slice(0, -'data.pkl'.length);
  const read = async (name: string, bytes?: number): Promise<Uint8Array<ArrayBuffer>> => {
    const entry = entries.get(folder + name);
    const shown = JSON.stringify((folder + name).slice(0, 80));
    if (!entry) throw new TorchFileError(file, `entry ${shown} is missing. ${DAMAGED}`);
    if (bytes !== undefined && entry.size !== bytes) {
      throw new TorchFileError(file, `entry ${shown} holds ${entry.size} bytes, expected ${bytes}. ${DAMAGED}`);
    }
    return readZipEntry(source, folder + name, entry);
  };
  if (entries.has(`${folder}byteorder`) && Buffer.from(await read('byteorder')).toString() !== 'little') {
    throw new TorchFileError(file, 'was written on a big-endian machine. Save it again on a little-endian one.');
  }
  if (entries.get(pickleName)!.size > MAX_PICKLE) {
    throw new TorchFileError(file, `its pickle takes over ${MAX_PICKLE} bytes: too many for a dict of weights.`);
  }
  const { value } = unpickle(file, await read('data.pkl'));
  const readStorage = ({ key, dtype, length }: TorchStorage) => read(`data/${key}`, length * itemBytes(dtype));
  return { format: 'zip', value, readStorage };
}

async function openLegacy(source: ByteSource): Promise<OpenCheckpoint> {
  const { value, positions } = await readLegacy(source, MAX_PICKLE);
  const readStorage = (storage: TorchStorage) => {
    const position = positions.get(storage);
    if (position === undefined) throw new TorchFileError(source.file, `a storage is missing. ${DAMAGED}`);
    return readBytes(source, position, storage.length * itemBytes(storage.dtype), 'a storage');
  };
  return { format: 'legacy', value, readStorage };
}

/** Copies a strided view of a storage to a row-major tensor; one that is the whole storage takes it as it is. */
function materialise(
  { storage, offset, shape, strides }: TorchTensor,
  bytes: Uint8Array<ArrayBuffer>,
): SafetensorsTensor {
  const { dtype } = storage;
  const all = arrayOver(dtype, bytes);
  const count = elementCount(shape);
  if (isRowMajor(shape, strides)) {
    const data = offset === 0 && count === all.length ? all : all.slice(offset, offset + count);
    return { dtype, shape, data };
  }
  const data = all.slice(0, count);
  const index = shape.map(() => 0);
  let at = offset;
  for (let i = 0; i < count; i++) {
    data[i] = all[at];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < shape[axis]) break;
      at -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return { dtype, shape, data };
}

function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= shape[axis];
  }
  return true;
}

const elementCount = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

const MAX_SETTING = 200;

function isSetting(entry: [PickleValue, PickleValue]): entry is [string, number | string | boolean] {
  const [name, value] = entry;
  if (typeof name !== 'string' || name.length > MAX_SETTING) return false;
  if (typeof value === 'string') return value.length <= MAX_SETTING;
  return typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value));
}
