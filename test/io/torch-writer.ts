/** Writes what torch.save writes, and what it never would: pickles, zip archives and legacy streams, for the tests. */
import { crc32 } from 'node:zlib';
import type { ByteSource } from '../../lib/io/torch-source';

/** A tensor to be written: a view of a storage. */
export class Tensor {
  constructor(
    readonly storage: Storage,
    readonly shape: readonly number[],
    readonly strides: readonly number[] = rowMajor(shape),
    readonly offset = 0,
  ) {}
}

/** `type` is torch's: FloatStorage; `length` is what the pickle claims. */
export class Storage {
  constructor(
    readonly key: string,
    readonly type: string,
    readonly array: NodeJS.TypedArray,
    readonly length = array.length,
  ) {}

  get bytes(): Buffer {
    return Buffer.from(this.array.buffer, this.array.byteOffset, this.array.byteLength);
  }
}

export class Tuple {
  constructor(readonly items: readonly unknown[]) {}
}

export const tuple = (...items: unknown[]): Tuple => new Tuple(items);

/** A Python function or class, by its name. */
export class Global {
  constructor(
    readonly module: string,
    readonly name: string,
  ) {}
}

/** A call of a Python function. */
export class Call {
  constructor(
    readonly callable: Global,
    readonly args: Tuple,
  ) {}
}

const rowMajor = (shape: readonly number[]): number[] =>
  shape.map((_, axis) => shape.slice(axis + 1).reduce((product, n) => product * n, 1));

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** One value in opcodes, without PROTO and STOP. */
export function opcodes(value: unknown): Buffer {
  const all = (items: Iterable<unknown>) => [...items].map(opcodes);
  if (value === null) return Buffer.from('N');
  if (value === true) return Buffer.from([0x88]);
  if (value === false) return Buffer.from([0x89]);
  if (typeof value === 'bigint') {
    const bytes = uint64(value & 0xffffffffffffffffn);
    const high = uint64((value >> 64n) & 0xffffffffffffffffn);
    return Buffer.concat([Buffer.from([0x8a, 16]), bytes, high]);
  }
  if (typeof value === 'number') {
    if (Number.isInteger(value) && Math.abs(value) < 2 ** 31) {
      const bytes = Buffer.alloc(5, 'J');
      bytes.writeInt32LE(value, 1);
      return bytes;
    }
    if (Number.isSafeInteger(value)) return opcodes(BigInt(value));
    const bytes = Buffer.alloc(9, 'G');
    bytes.writeDoubleBE(value, 1);
    return bytes;
  }
  if (typeof value === 'string') {
    const text = Buffer.from(value);
    return Buffer.concat([Buffer.from('X'), uint32(text.length), text]);
  }
  if (Array.isArray(value)) return Buffer.concat([Buffer.from(']('), ...all(value), Buffer.from('e')]);
  if (value instanceof Map) return Buffer.concat([Buffer.from('}('), ...all([...value].flat(1)), Buffer.from('u')]);
  if (value instanceof Tuple) return Buffer.concat([Buffer.from('('), ...all(value.items), Buffer.from('t')]);
  if (value instanceof Global) return Buffer.from(`c${value.module}\n${value.name}\n`);
  if (value instanceof Call) return Buffer.concat([...all([value.callable, value.args]), Buffer.from('R')]);
  if (value instanceof Tensor) {
    const { storage, offset, shape, strides } = value;
    const args = tuple(
      storage,
      offset,
      tuple(...shape),
      tuple(...strides),
      false,
      new Call(new Global('collections', 'OrderedDict'), tuple()),
    );
    return opcodes(new Call(new Global('torch._utils', '_rebuild_tensor_v2'), args));
  }
  if (value instanceof Storage) {
    const { type, key, length } = value;
    const id = tuple('storage', new Global('torch', type), key, 'cpu', length, ...(legacy ? [null] : []));
    return Buffer.concat([opcodes(id), Buffer.from('Q')]);
  }
  throw new TypeError(`cannot pickle a ${typeof value}`);
}

/** The legacy format's storages carry one field more. */
let legacy = false;

/** A whole pickle of protocol 2. */
export function pickle(value: unknown): Buffer {
  return rawPickle(opcodes(value));
}

/** A whole pickle of these opcodes. */
export function rawPickle(body: Buffer | string): Buffer {
  return Buffer.concat([Buffer.from([0x80, 2]), Buffer.from(body as string, 'latin1'), Buffer.from('.')]);
}

export interface ZipOptions {
  /** Sizes and places in zip64 fields, as torch.save writes them for large files. */
  zip64?: boolean;
  method?: number;
}

/** An archive of stored entries. */
export function zip(
  entries: readonly (readonly [string, Buffer])[],
  { zip64 = false, method = 0 }: ZipOptions = {},
): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let position = 0;
  for (const [name, data] of entries) {
    const nameBytes = Buffer.from(name);
    const padding = Buffer.alloc(7, 'F'); // torch.save aligns the data by an extra field
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(method, 8);
    local.writeUInt16LE(nameBytes.length, 26);
    local.writeUInt16LE(padding.length, 28);
    const extra = zip64
      ? Buffer.concat([Buffer.from([1, 0, 24, 0]), uint64(data.length), uint64(data.length), uint64(position)])
      : Buffer.alloc(0);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(crc32(data), 16);
    entry.writeUInt32LE(zip64 ? 0xffffffff : data.length, 20);
    entry.writeUInt32LE(zip64 ? 0xffffffff : data.length, 24);
    entry.writeUInt16LE(nameBytes.length, 28);
    entry.writeUInt16LE(extra.length, 30);
    entry.writeUInt32LE(zip64 ? 0xffffffff : position, 42);
    directory.push(entry, nameBytes, extra);
    const whole = [local, nameBytes, padding, data];
    parts.push(...whole);
    position += whole.reduce((sum, part) => sum + part.length, 0);
  }
  const directoryBytes = Buffer.concat(directory);
  const end64 = Buffer.alloc(56);
  end64.writeUInt32LE(0x06064b50, 0);
  end64.writeBigUInt64LE(BigInt(entries.length), 24);
  end64.writeBigUInt64LE(BigInt(entries.length), 32);
  end64.writeBigUInt64LE(BigInt(directoryBytes.length), 40);
  end64.writeBigUInt64LE(BigInt(position), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(position + directoryBytes.length), 8);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(zip64 ? 0xffff : entries.length, 10);
  end.writeUInt32LE(zip64 ? 0xffffffff : directoryBytes.length, 12);
  end.writeUInt32LE(zip64 ? 0xffffffff : position, 16);
  return Buffer.concat([...parts, directoryBytes, ...(zip64 ? [end64, locator] : []), end]);
}

/** What torch.save writes today. A value that is a Buffer stands for a pickle as it is. */
export function torchZip(value: unknown, storages: readonly Storage[] = [], options: ZipOptions = {}): Buffer {
  legacy = false;
  return zip(
    [
      ['archive/data.pkl', Buffer.isBuffer(value) ? value : pickle(value)],
      ...storages.map(({ key, bytes }) => [`archive/data/${key}`, bytes] as const),
      ['archive/version', Buffer.from('3\n')],
    ],
    options,
  );
}

/** What torch.save wrote before PyTorch 1.6. */
export function torchLegacy(value: unknown, storages: readonly Storage[] = []): Buffer {
  legacy = true;
  const parts = [
    pickle(0x1950a86a20f9469cfc6cn),
    pickle(1001),
    pickle(new Map([['little_endian', true]])),
    Buffer.isBuffer(value) ? value : pickle(value),
    pickle(storages.map(({ key }) => key)),
    ...storages.flatMap(({ array, bytes }) => [uint64(array.length), bytes]),
  ];
  legacy = false;
  return Buffer.concat(parts);
}

/** Bytes in memory in place of a file. */
export function memorySource(bytes: Uint8Array): ByteSource {
  const read = (position: number, length: number) => {
    return Promise.resolve(new Uint8Array(bytes.subarray(position, position + length)));
  };
  return { file: 'memory.pth.tar', size: bytes.length, read };
}

/** A generator of pseudo-random integers from 0 to n-1. */
export function randomIntegers(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/**
 * One of the ways in which a file is damaged: bytes changed, inserted, removed, the end cut off, a part written twice.
 * @param hot ranges [begin, end) that are hit in two of three rounds: where the structure stands, not the numbers
 */
export function mutate(
  bytes: Buffer,
  random: (n: number) => number,
  hot: readonly (readonly [number, number])[],
): Buffer {
  const place = () => {
    const [begin, end] = random(3) ? hot[random(hot.length)] : [0, bytes.length];
    return begin + random(end - begin);
  };
  const at = place();
  switch (random(6)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(16))]);
    case 2:
      return Buffer.concat([bytes.subarray(0, at), Buffer.from([random(256), random(256)]), bytes.subarray(at)]);
    case 3: {
      const from = place();
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(from, from + random(64)), bytes.subarray(at)]);
    }
    default: {
      const changed = Buffer.from(bytes);
      for (let n = 1 + random(8); n > 0; n--) {
        const special = [0xff, 0x00, 0x80, 0x7f, 0x28, 0x52, 0x63, 0x62];
        changed[place()] = random(2) ? random(256) : special[random(special.length)];
      }
      return changed;
    }
  }
}
