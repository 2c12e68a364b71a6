/**
 * The pickles in torch.save's files, read as data.
 *
 * A pickle is a program for a stack machine that may call any function of Python. This machine knows the few that weights
 * are made of ({@link FUNCTIONS}, {@link STORAGES}) and refuses every other by name; a call builds a plain value and
 * nothing else. It never recurses, and allocates no more than the stream's own bytes and values.
 * The opcodes are described in CPython's Lib/pickletools.py.
 */
import type { SafetensorsDType } from './safetensors';
import { DAMAGED, TorchFileError } from './torch-source';

/** Elements that tensors share; their bytes stand elsewhere in the file, under `key`. */
export class TorchStorage {
  constructor(
    readonly key: string,
    readonly dtype: SafetensorsDType,
    /** Number of elements. */
    readonly length: number,
  ) {}
}

/** A tensor as a pickle describes it: a strided view of a storage, checked to lie inside it. */
export class TorchTensor {
  constructor(
    readonly storage: TorchStorage,
    /** In elements, as the strides are. */
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {}
}

/** A name from the allow-list. */
class Global {
  constructor(readonly name: string) {}
}

/** A dict is a Map, a list or tuple an array, an int beyond 2^53 a bigint. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | Global
  | TorchStorage
  | TorchTensor;

/** The storages that have a dtype in safetensors. */
const STORAGES: ReadonlyMap<string, SafetensorsDType> = new Map([
  ['torch.DoubleStorage', 'F64'],
  ['torch.FloatStorage', 'F32'],
  ['torch.HalfStorage', 'F16'],
  ['torch.BFloat16Storage', 'BF16'],
  ['torch.LongStorage', 'I64'],
  ['torch.IntStorage', 'I32'],
  ['torch.ShortStorage', 'I16'],
  ['torch.CharStorage', 'I8'],
  ['torch.ByteStorage', 'U8'],
  ['torch.BoolStorage', 'BOOL'],
]);

type Fail = (problem: string) => never;

/** The functions that may be called, by their names in Python. */
const FUNCTIONS: ReadonlyMap<string, (args: readonly PickleValue[], fail: Fail) => PickleValue> = new Map([
  ['collections.OrderedDict', orderedDict],
  ['torch.Size', ([sizes], fail) => (Array.isArray(sizes) ? sizes : fail('torch.Size expects a tuple.'))],
  ['torch._utils._rebuild_tensor', rebuildTensor],
  ['torch._utils._rebuild_tensor_v2', rebuildTensor],
  ['torch._utils._rebuild_parameter', ([tensor]) => tensor ?? null],
]);

const MAX_STACK = 100_000; // Python's pickler hands over containers in batches of 1,000
const MAX_VALUES = 2_000_000; // a tensor takes about 25, a released checkpoint 3,000 tensors
const MAX_DIMENSIONS = 64;
const MAX_INT_BYTES = 255;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const LATIN1 = new TextDecoder('latin1');

export interface Pickle {
  value: PickleValue;
  /** Where the next byte after the pickle stands. */
  end: number;
  /** All storages that it speaks of, by key. */
  storages: ReadonlyMap<string, TorchStorage>;
}

/**
 * Reads the pickle that starts at `start`.
 * @throws TorchFileError for what is not allowed, malformed or cut off
 */
export function unpickle(file: string, bytes: Uint8Array, start = 0): Pickle {
  return new Unpickler(file, bytes, start).run();
}

class Unpickler {
  private readonly view: DataView;
  private readonly stack: PickleValue[] = [];
  /** Heights of the stack at each open MARK. */
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, PickleValue>();
  private readonly storages = new Map<string, TorchStorage>();
  /** Values made or recalled so far, and memoised ones. */
  private values = 0;

  constructor(
    private readonly file: string,
    private readonly bytes: Uint8Array,
    private position: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): Pickle {
    for (;;) {
      const opcode = this.byte();
      if (opcode === 0x2e) return { value: this.pop(), end: this.position, storages: this.storages }; // STOP
      this.execute(opcode);
      if (this.stack.length + this.marks.length > MAX_STACK) this.fail(`its pickle stacks over ${MAX_STACK} values.`);
    }
  }

  private execute(opcode: number): void {
    switch (String.fromCharCode(opcode)) {
      case '\x80': // PROTO
        if (this.byte() > 5) this.fail(`its pickle protocol is unknown. ${DAMAGED}`);
        return;
      case '\x95': // FRAME
        this.size8();
        return;
      case '(': // MARK
        this.marks.push(this.stack.length);
        return;
      case '0': // POP
        this.pop();
        return;
      case '1': // POP_MARK
        this.popMark();
        return;
      case '2': // DUP
        return this.push(this.top());

      case 'N': // NONE
        return this.push(null);
      case '\x88': // NEWTRUE
        return this.push(true);
      case '\x89': // NEWFALSE
        return this.push(false);
      case 'K': // BININT1
        return this.push(this.byte());
      case 'M': // BININT2
        return this.push(this.view.getUint16(this.take(2), true));
      case 'J': // BININT
        return this.push(this.view.getInt32(this.take(4), true));
      case '\x8a': // LONG1
        return this.push(this.integer(this.byte()));
      case '\x8b': // LONG4
        return this.push(this.integer(this.size4()));
      case 'G': // BINFLOAT
        return this.push(this.view.getFloat64(this.take(8), false));

      case '\x8c': // SHORT_BINUNICODE
        return this.push(this.text(this.byte()));
      case 'X': // BINUNICODE
        return this.push(this.text(this.size4()));
      case '\x8d': // BINUNICODE8
        return this.push(this.text(this.size8()));
      case 'U': // SHORT_BINSTRING, of Python 2
        return this.push(this.text(this.byte(), 'latin1'));
      case 'T': // BINSTRING, of Python 2
        return this.push(this.text(this.size4(), 'latin1'));

      case ']': // EMPTY_LIST
      case ')': // EMPTY_TUPLE
        return this.push([]);
      case '}': // EMPTY_DICT
        return this.push(new Map());
      case 't': // TUPLE
      case 'l': // LIST
        return this.push(this.popMark());
      case '\x85': // TUPLE1
      case '\x86': // TUPLE2
      case '\x87': // TUPLE3
        return this.push(this.popMany(opcode - 0x84));
      case 'd': {
        // DICT
        const items = this.popMark();
        this.push(new Map());
        return this.setItems(items);
      }
      case 'a': // APPEND
        return this.append([this.pop()]);
      case 'e': // APPENDS
        return this.append(this.popMark());
      case 's': // SETITEM
        return this.setItems(this.popMany(2));
      case 'u': // SETITEMS
        return this.setItems(this.popMark());

      case 'q': // BINPUT
        return this.memoise(this.byte());
      case 'r': // LONG_BINPUT
        return this.memoise(this.size4());
      case '\x94': // MEMOIZE
        return this.memoise(this.memo.size);
      case 'h': // BINGET
        return this.recall(this.byte());
      case 'j': // LONG_BINGET
        return this.recall(this.size4());

      case 'c': // GLOBAL
      case 'i': // INST
        return this.global(this.line(), this.line());
      case '\x93': {
        // STACK_GLOBAL
        const [module, name] = this.popMany(2);
        return this.global(module, name);
      }
      case 'R': {
        // REDUCE
        const [callable, args] = this.popMany(2);
        return this.push(this.call(callable, args));
      }
      case 'b': // BUILD: attributes such as a state dict's _metadata, which say nothing of the weights
        this.pop();
        if (!(this.top() instanceof Map)) this.fail('its pickle sets attributes of something that is no dict.');
        return;
      case 'Q': // BINPERSID
        return this.push(this.storage(this.pop()));
      default:
        this.fail(`its pickle holds opcode 0x${opcode.toString(16)}, which torch.save does not write. ${DAMAGED}`);
    }
  }

  // ---- bytes ----

  /** Moves on over `count` bytes and gives where they begin. */
  private take(count: number): number {
    const begin = this.position;
    if (count > this.bytes.length - begin) this.fail(`its pickle is cut off. ${DAMAGED}`);
    this.position += count;
    return begin;
  }

  private byte(): number {
    return this.bytes[this.take(1)];
  }

  private size4(): number {
    return this.view.getUint32(this.take(4), true);
  }

  private size8(): number {
    const size = this.view.getBigUint64(this.take(8), true);
    return size > this.bytes.length ? this.fail(`its pickle is cut off. ${DAMAGED}`) : Number(size);
  }

  /** Little endian, two's complement. */
  private integer(count: number): number | bigint {
    if (count > MAX_INT_BYTES) this.fail(`its pickle holds an integer of ${count} bytes.`);
    const begin = this.take(count);
    let value = 0n;
    for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[begin + i]);
    value = BigInt.asIntN(8 * count, value);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  private text(count: number, encoding: 'utf-8' | 'latin1' = 'utf-8'): string {
    const begin = this.take(count);
    const bytes = this.bytes.subarray(begin, begin + count);
    try {
      return (encoding === 'utf-8' ? UTF8 : LATIN1).decode(bytes);
    } catch {
      return this.fail(`its pickle holds text that is no UTF-8. ${DAMAGED}`);
    }
  }

  private line(): string {
    const end = this.bytes.indexOf(0x0a, this.position);
    if (end < 0) this.fail(`its pickle is cut off. ${DAMAGED}`);
    const text = this.text(end - this.position);
    this.position++;
    return text;
  }

  // ---- the stack ----

  private push(value: PickleValue): void {
    this.count();
    this.stack.push(value);
  }

  private count(): void {
    if (++this.values > MAX_VALUES) this.fail(`its pickle holds over ${MAX_VALUES} values: too many for weights.`);
  }

  private top(): PickleValue {
    if (this.stack.length <= (this.marks.at(-1) ?? 0))
      this.fail(`its pickle takes a value that is not there. ${DAMAGED}`);
    return this.stack[this.stack.length - 1];
  }

  private pop(): PickleValue {
    const value = this.top();
    this.stack.pop();
    return value;
  }

  private popMany(count: number): PickleValue[] {
    return Array.from({ length: count }, () => this.pop()).reverse();
  }

  private popMark(): PickleValue[] {
    const mark = this.marks.pop();
    if (mark === undefined) return this.fail(`its pickle closes what it did not open. ${DAMAGED}`);
    return this.stack.splice(mark);
  }

  private memoise(index: number): void {
    this.count();
    this.memo.set(index, this.top());
  }

  private recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) return this.fail(`its pickle recalls value ${index}, which it did not store. ${DAMAGED}`);
    this.push(value);
  }

  private append(items: readonly PickleValue[]): void {
    const list = this.top();
    if (!Array.isArray(list)) return this.fail('its pickle appends to something that is no list.');
    for (const item of items) list.push(item);
  }

  private setItems(items: readonly PickleValue[]): void {
    const dict = this.top();
    if (!(dict instanceof Map) || items.length % 2)
      return this.fail('its pickle sets items of something that is no dict.');
    for (let i = 0; i < items.length; i += 2) dict.set(items[i], items[i + 1]);
  }

  // ---- Python's names ----

  private global(module: PickleValue, name: PickleValue): void {
    // Python 2's __builtin__ and the rest are only ever named in a refusal.
    const full = `${typeof module === 'string' ? module : '?'}.${typeof name === 'string' ? name : '?'}`;
    if (!FUNCTIONS.has(full) && !STORAGES.has(full)) {
      this.fail(
        `its pickle asks for ${JSON.stringify(full.slice(0, 80))}, which is not among the names that weights are made of. ` +
          'Nothing was executed; in Python, save the state_dict of the network alone.',
      );
    }
    this.push(new Global(full));
  }

  private call(callable: PickleValue, args: PickleValue): PickleValue {
    const build = callable instanceof Global ? FUNCTIONS.get(callable.name) : undefined;
    if (!build || !Array.isArray(args)) return this.fail('its pickle calls something that is no function.');
    return build(args, (problem) => this.fail(problem));
  }

  /** ('storage', type, key, location, number of elements), and in the legacy format a view of it, or None. */
  private storage(id: PickleValue): TorchStorage {
    if (!Array.isArray(id)) return this.fail('a storage is described by something that is no tuple.');
    const [kind, type, key, , length, view = null] = id;
    const dtype = type instanceof Global ? STORAGES.get(type.name) : undefined;
    if (kind !== 'storage' || !dtype || typeof key !== 'string' || !isSize(length)) {
      return this.fail(`the description of a storage is malformed. ${DAMAGED}`);
    }
    if (view !== null)
      return this.fail('it holds storages that are views of others, as PyTorch before 0.4 wrote them.');
    const known = this.storages.get(key);
    if (known && (known.dtype !== dtype || known.length !== length)) {
      return this.fail(`storage ${JSON.stringify(key.slice(0, 80))} is described twice in different ways. ${DAMAGED}`);
    }
    const storage = known ?? new TorchStorage(key, dtype, length);
    this.storages.set(key, storage);
    return storage;
  }

  private fail(problem: string): never {
    throw new TorchFileError(this.file, problem);
  }
}

// ---- what the functions build ----

/** OrderedDict() or, as Python 2 has it, OrderedDict([[key, value], …]). */
function orderedDict([items = []]: readonly PickleValue[], fail: Fail): PickleValue {
  if (!Array.isArray(items)) return fail('OrderedDict expects a list of pairs.');
  return new Map(
    items.map((pair): [PickleValue, PickleValue] => {
      if (!Array.isArray(pair) || pair.length !== 2) return fail('OrderedDict expects a list of pairs.');
      return [pair[0], pair[1]];
    }),
  );
}

/** (storage, offset, size, stride, …): what follows speaks of gradients. */
function rebuildTensor([storage, offset, shape, strides]: readonly PickleValue[], fail: Fail): PickleValue {
  if (!(storage instanceof TorchStorage) || !isSize(offset) || !isSizes(shape) || !isSizes(strides)) {
    return fail(`the description of a tensor is malformed. ${DAMAGED}`);
  }
  if (shape.length !== strides.length || shape.length > MAX_DIMENSIONS) {
    return fail(`a tensor has ${shape.length} sizes and ${strides.length} strides. ${DAMAGED}`);
  }
  const elements = shape.reduce((product, n) => product * n, 1);
  const last = shape.reduce((sum, n, axis) => sum + (n - 1) * strides[axis], offset);
  if (elements > storage.length || (elements > 0 && last >= storage.length) || offset > storage.length) {
    return fail(`a tensor [${shape.join(', ')}] reaches beyond its storage of ${storage.length} elements. ${DAMAGED}`);
  }
  return new TorchTensor(storage, offset, [...shape], [...strides]);
}

const isSize = (value: PickleValue): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isSizes = (value: PickleValue): value is number[] => Array.isArray(value) && value.every(isSize);
