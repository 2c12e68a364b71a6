/**
 * The safetensors file format: 8 bytes of header length (little endian), a JSON header, then the tensors' bytes.
 *
 * Nothing in a file is trusted: every length, offset and shape is checked against the file before a byte is allocated
 * for it. Tensors are copied into arrays of their own, so a file may place them at any address, as the format allows.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { atomicWrite } from './atomic-write';

/** Array type of each dtype. F16 and BF16 are held as raw bits; {@link toFloat32} converts them. BOOL is one byte. */
const ARRAY_TYPES = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;

/** The element types that are read and written. */
export type SafetensorsDType = keyof typeof ARRAY_TYPES;

/** The arrays that tensors are read into and written from. */
export type SafetensorsArray =
  Float64Array | Float32Array | Uint16Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array;

/** One tensor with its values, row-major. */
export interface SafetensorsTensor {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly data: SafetensorsArray;
}

/** One tensor as the header tells of it; `begin` and `end` are bytes from the start of the file. */
export interface SafetensorsInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: Record<string, string>;
  /** In the order of their bytes in the file. */
  readonly tensors: Map<string, SafetensorsInfo>;
}

export interface Safetensors {
  readonly metadata: Record<string, string>;
  readonly tensors: Map<string, SafetensorsTensor>;
}

/** A file that is no whole, well-formed safetensors file, or tensors that cannot be written as one. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError';
  constructor(
    readonly file: string,
    problem: string,
  ) {
    super(`[safetensors] ${file}: ${problem}`);
  }
}

/** The format's own limit, which keeps a false header length from being believed. */
const MAX_HEADER_BYTES = 100_000_000;
const PREFIX_BYTES = 8;
const PIECE_BYTES = 64 * 2 ** 20;
const BROKEN = 'The file is damaged or was not written to its end: take another copy of it or an earlier checkpoint.';
const FOREIGN = 'Write the file again with a safetensors library.';

/** Reads metadata, names, dtypes and shapes only; costs as little for a file of many GiB as for a small one. */
export async function readSafetensorsHeader(file: string): Promise<SafetensorsHeader> {
  return withFile(file, (handle) => readHeader(handle, file));
}

/**
 * Reads a file, or only the tensors called `names` from it.
 *
 * @throws SafetensorsError if the file is damaged or lacks one of the names.
 */
export async function readSafetensors(file: string, options: { names?: Iterable<string> } = {}): Promise<Safetensors> {
  return withFile(file, async (handle) => {
    const header = await readHeader(handle, file);
    const tensors = new Map<string, SafetensorsTensor>();
    for (const name of options.names ?? header.tensors.keys()) {
      const info = header.tensors.get(name);
      if (!info) throw new SafetensorsError(file, `expected a tensor ${quote(name)}, found ${listOf(header.tensors)}.`);
      tensors.set(name, await readTensor(handle, file, name, info));
    }
    return { metadata: header.metadata, tensors };
  });
}

/**
 * Writes tensors and metadata, atomically: the former file stays whole until the new one is on the disk.
 *
 * The same input in the same order gives the same bytes. Tensors of wider elements are laid before narrower ones (and
 * else in the order given), which keeps each at a multiple of its element size.
 */
export async function writeSafetensors(
  file: string,
  tensors: Iterable<readonly [string, SafetensorsTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const entries = [...tensors];
  entries.forEach(([name, tensor]) => checkWritable(file, name, tensor));
  entries.sort((a, b) => itemBytes(b[1].dtype) - itemBytes(a[1].dtype)); // a stable sort
  const header = encodeHeader(file, entries, metadata);
  await atomicWrite(file, [header, ...entries.map(([, { data }]) => bytesOf(data))]);
}

/** Bytes of one element. */
export const itemBytes = (dtype: SafetensorsDType): number => ARRAY_TYPES[dtype].BYTES_PER_ELEMENT;

/** Bytes as an array of their dtype, without a copy; they begin at an address that is a multiple of the element's size. */
export function arrayOver(dtype: SafetensorsDType, bytes: Uint8Array<ArrayBuffer>): SafetensorsArray {
  return new ARRAY_TYPES[dtype](bytes.buffer, bytes.byteOffset, bytes.byteLength / itemBytes(dtype));
}

/** The values of a floating-point tensor as float32: F32 as it is, F16 and BF16 exactly, F64 rounded. */
export function toFloat32(tensor: SafetensorsTensor): Float32Array {
  const { dtype, data } = tensor;
  if (data instanceof Float32Array) return data;
  if (data instanceof Float64Array) return Float32Array.from(data);
  if (data instanceof Uint16Array && dtype === 'BF16') return bfloat16ToFloat32(data);
  if (data instanceof Uint16Array && dtype === 'F16') return float16ToFloat32(data);
  throw new TypeError(
    `[safetensors] expected a tensor of F64, F32, F16 or BF16 to convert to float32, received ${dtype}`,
  );
}

function bfloat16ToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
  return new Float32Array(words.buffer);
}

function float16ToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const sign = bits[i] & 0x8000 ? -1 : 1;
    const exponent = (bits[i] >>> 10) & 31;
    const fraction = bits[i] & 1023;
    if (exponent === 0) out[i] = sign * fraction * 2 ** -24;
    else if (exponent === 31) out[i] = fraction ? NaN : sign * Infinity;
    else out[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return out;
}

// ---- reading ----

async function withFile<T>(file: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw new SafetensorsError(file, 'no such file. Check the path.');
    throw new SafetensorsError(file, `cannot be opened (${code}). Check its permissions.`);
  }
  try {
    return await use(handle);
  } finally {
    await handle.close();
  }
}

async function readHeader(handle: FileHandle, file: string): Promise<SafetensorsHeader> {
  const stats = await handle.stat();
  if (!stats.isFile()) throw new SafetensorsError(file, 'expected a file, found a folder or a device. Check the path.');
  if (stats.size < PREFIX_BYTES) {
    throw new SafetensorsError(file, `expected at least ${PREFIX_BYTES} bytes, found ${stats.size}. ${BROKEN}`);
  }
  const prefix = Buffer.alloc(PREFIX_BYTES);
  await readFully(handle, file, prefix, 0);
  const headerBytes = prefix.readBigUInt64LE();
  const room = Math.min(stats.size - PREFIX_BYTES, MAX_HEADER_BYTES);
  if (headerBytes < 2n || headerBytes > BigInt(room)) {
    const problem = `its header claims ${headerBytes} bytes, expected 2 to ${room} in a file of ${stats.size} bytes.`;
    throw new SafetensorsError(file, `${problem} It is no safetensors file, or a damaged one. ${BROKEN}`);
  }
  const json = Buffer.alloc(Number(headerBytes));
  await readFully(handle, file, json, PREFIX_BYTES);
  return parseHeader(file, json, PREFIX_BYTES + json.length, stats.size);
}

/** Checks everything that the header says against the size of the file. */
function parseHeader(file: string, json: Uint8Array, dataStart: number, fileBytes: number): SafetensorsHeader {
  const fail = (problem: string, advice = FOREIGN): never => {
    throw new SafetensorsError(file, `${problem} ${advice}`);
  };
  const header = parseJson(json, (problem) => fail(`its header is no valid JSON (${problem}).`, BROKEN));
  if (!isRecord(header)) return fail('expected a JSON object as header, found another value.', BROKEN);

  const metadata = Object.hasOwn(header, '__metadata__') ? header.__metadata__ : {};
  if (!isRecord(metadata)) return fail(`expected __metadata__ to be an object of strings, found ${show(metadata)}.`);
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') fail(`expected __metadata__ ${quote(key)} to be a string, found ${show(value)}.`);
  }

  const dataBytes = fileBytes - dataStart;
  const infos: [string, SafetensorsInfo][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const at = `tensor ${quote(name)}:`;
    if (!isRecord(entry)) return fail(`${at} expected an object, found ${show(entry)}.`);
    const { dtype, shape, data_offsets: offsets } = entry;
    if (!isDType(dtype)) return fail(`${at} expected a dtype of ${dtypeNames()}, found ${show(dtype)}.`);
    if (!Array.isArray(shape) || !shape.every(isSize)) {
      return fail(`${at} expected a shape of whole numbers from 0 up, found ${show(shape)}.`);
    }
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1]) {
      return fail(`${at} expected data_offsets [begin, end] with 0 <= begin <= end, found ${show(offsets)}.`);
    }
    const [begin, end] = offsets as [number, number];
    if (end > dataBytes) fail(`${at} ends at byte ${end} of the data, but the file holds ${dataBytes}.`, BROKEN);
    const bytes = elementCount(shape) * itemBytes(dtype);
    if (bytes !== end - begin) {
      fail(`${at} ${dtype} of shape ${show(shape)} takes ${bytes} bytes, but data_offsets give it ${end - begin}.`);
    }
    infos.push([name, { dtype, shape, begin: dataStart + begin, end: dataStart + end }]);
  }

  // Laid end to end: no overlap, no gap, nothing behind the last.
  infos.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let position = dataStart;
  for (const [name, { begin, end }] of infos) {
    if (begin !== position) {
      const problem = begin < position ? 'overlaps the tensor before it' : 'leaves a gap behind the tensor before it';
      fail(`tensor ${quote(name)} ${problem} (begins at ${begin - dataStart}, expected ${position - dataStart}).`);
    }
    position = end;
  }
  if (position !== fileBytes) fail(`the header describes ${position} bytes, but the file holds ${fileBytes}.`, BROKEN);
  return { metadata: metadata as Record<string, string>, tensors: new Map(infos) };
}

async function readTensor(
  handle: FileHandle,
  file: string,
  name: string,
  { dtype, shape, begin, end }: SafetensorsInfo,
): Promise<SafetensorsTensor> {
  let data: SafetensorsArray;
  try {
    data = new ARRAY_TYPES[dtype]((end - begin) / itemBytes(dtype));
  } catch {
    throw new SafetensorsError(file, `tensor ${quote(name)} of ${end - begin} bytes does not fit into memory.`);
  }
  await readFully(handle, file, bytesOf(data), begin);
  return { dtype, shape, data };
}

async function readFully(handle: FileHandle, file: string, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.length;) {
    const length = Math.min(PIECE_BYTES, target.length - done);
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0)
      throw new SafetensorsError(file, `ended at byte ${position + done} while it was read. ${BROKEN}`);
    done += bytesRead;
  }
}

// ---- the header's JSON ----

function parseJson(json: Uint8Array, fail: (problem: string) => never): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
    const value: unknown = JSON.parse(text);
    const twice = repeatedKey(text);
    if (twice === null) return value;
    return fail(`the key ${quote(twice)} stands there twice`);
  } catch (error) {
    if (error instanceof SafetensorsError) throw error;
    return fail((error as Error).message.slice(0, 120));
  }
}

/** The first key that occurs twice in one object of a valid JSON text, which JSON.parse would pass over in silence. */
function repeatedKey(text: string): string | null {
  const open: (Set<string> | null)[] = []; // the keys of each enclosing object, null for an array
  for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"(?:\s*:)?|[{}[\]]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(null);
    else if (token === '}' || token === ']') open.pop();
    else if (token.endsWith(':')) {
      const key = JSON.parse(token.slice(0, -1)) as string;
      const keys = open[open.length - 1];
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return null;
}

/** Written by hand because an object would reorder names that look like numbers. Padded so that the data is aligned. */
function encodeHeader(
  file: string,
  entries: readonly (readonly [string, SafetensorsTensor])[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const fields: string[] = [];
  const names = new Set<string>();
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') {
      throw new SafetensorsError(file, `expected metadata ${quote(key)} to be a string, received ${show(value)}.`);
    }
  }
  if (Object.keys(metadata).length > 0) fields.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let position = 0;
  for (const [name, { dtype, shape, data }] of entries) {
    if (names.has(name)) throw new SafetensorsError(file, `received two tensors called ${quote(name)}.`);
    names.add(name);
    const end = position + data.byteLength;
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [position, end] })}`);
    position = end;
  }
  const json = Buffer.from(`{${fields.join(',')}}`, 'utf8');
  const header = Buffer.alloc(PREFIX_BYTES + Math.ceil(json.length / 8) * 8, ' ');
  if (header.length - PREFIX_BYTES > MAX_HEADER_BYTES) {
    throw new SafetensorsError(file, `a header of ${json.length} bytes is over the format's ${MAX_HEADER_BYTES}.`);
  }
  header.writeBigUInt64LE(BigInt(header.length - PREFIX_BYTES));
  json.copy(header, PREFIX_BYTES);
  return header;
}

function checkWritable(file: string, name: string, { dtype, shape, data }: SafetensorsTensor): void {
  const at = `tensor ${quote(name)}:`;
  if (name === '__metadata__') throw new SafetensorsError(file, `${at} this name belongs to the format, use another.`);
  if (!isDType(dtype))
    throw new SafetensorsError(file, `${at} expected a dtype of ${dtypeNames()}, received ${show(dtype)}.`);
  if (!(data instanceof ARRAY_TYPES[dtype])) {
    throw new SafetensorsError(
      file,
      `${at} expected a ${ARRAY_TYPES[dtype].name} for ${dtype}, received ${show(data)}.`,
    );
  }
  if (!shape.every(isSize) || elementCount(shape) !== data.length) {
    const problem = `expected shape ${show(shape)} to hold the ${data.length} elements of the data`;
    throw new SafetensorsError(file, `${at} ${problem}, it holds ${elementCount(shape)}.`);
  }
}

// ---- small helpers ----

const elementCount = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);
const bytesOf = (data: SafetensorsArray): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
const isDType = (value: unknown): value is SafetensorsDType =>
  typeof value === 'string' && Object.hasOwn(ARRAY_TYPES, value);
const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const dtypeNames = (): string => Object.keys(ARRAY_TYPES).join(', ');
const quote = (name: string): string => JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);

/** A value from a file or a caller in a few characters. */
function show(value: unknown): string {
  if (ArrayBuffer.isView(value)) return value.constructor.name;
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function listOf(tensors: ReadonlyMap<string, unknown>): string {
  const names = [...tensors.keys()];
  return names.length === 0
    ? 'none'
    : `${names.slice(0, 5).map(quote).join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`;
}
