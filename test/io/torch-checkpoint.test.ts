import { expect } from 'chai';
import childProcess from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readTorchCheckpoint, toFloat32, TorchFileError } from '../../lib/io';
import { parseTorchCheckpoint } from '../../lib/io/torch-checkpoint';
import { goldenFolder } from '../parity/goldens-folder';
import {
  Call,
  Global,
  memorySource,
  mutate,
  opcodes,
  pickle,
  randomIntegers,
  rawPickle,
  Storage,
  Tensor,
  torchLegacy,
  torchZip,
  tuple,
  zip,
} from './torch-writer';

const floats = (...values: number[]) => Float32Array.of(...values);
const FORMATS = { zip: torchZip, legacy: torchLegacy } as const;
const formats = Object.keys(FORMATS) as (keyof typeof FORMATS)[];

async function refusal(bytes: Buffer): Promise<string> {
  try {
    await parseTorchCheckpoint(memorySource(bytes));
  } catch (error) {
    expect(error).to.be.instanceOf(TorchFileError);
    const { message } = error as Error;
    expect(message).to.match(/^\[torch\] memory\.pth\.tar: [^\n]{10,400}$/);
    return message;
  }
  throw new Error('read without an error');
}

describe('torch checkpoints', () => {
  for (const format of formats) {
    const write = FORMATS[format];

    describe(`in the ${format} format`, () => {
      const base = new Storage(
        '0',
        'FloatStorage',
        Float32Array.from({ length: 24 }, (_, i) => i),
      );
      const read = (value: unknown, storages = [base]) => parseTorchCheckpoint(memorySource(write(value, storages)));

      it('gives the tensors under state_dict and the settings beside it', async () => {
        const state = new Map([['a.weight', new Tensor(base, [2, 3, 4])]]);
        const whole = new Map<string, unknown>([
          ['epoch', 7],
          ['arch', 'resnet50'],
          ['lr', 0.05],
          ['done', true],
          ['state_dict', state],
          ['optimizer', new Map([['groups', [1, 2n ** 80n, null]]])],
        ]);
        const { tensors, ...rest } = await read(whole);
        expect(rest).to.deep.equal({ format, settings: { epoch: 7, arch: 'resnet50', lr: 0.05, done: true } });
        expect([...tensors]).to.deep.equal([['a.weight', { dtype: 'F32', shape: [2, 3, 4], data: base.array }]]);
      });

      it('takes a bare dict of tensors, an OrderedDict with attributes among them', async () => {
        const ordered = new Call(new Global('collections', 'OrderedDict'), tuple());
        const items = Buffer.concat([
          opcodes('w'),
          opcodes(new Tensor(new Storage('0', 'FloatStorage', floats(5)), [1])),
        ]);
        const metadata = opcodes(new Map([['_metadata', new Map([['version', 1]])]]));
        const body = Buffer.concat([
          opcodes(ordered),
          Buffer.from('('),
          items,
          Buffer.from('u'),
          metadata,
          Buffer.from('b'),
        ]);
        if (format === 'legacy') return; // the bytes above are the zip format's
        const { tensors } = await read(rawPickle(body), [new Storage('0', 'FloatStorage', floats(5))]);
        expect([...tensors.get('w')!.data]).to.deep.equal([5]);
      });

      it('lays strided views out row by row', async () => {
        const { tensors } = await read(
          new Map([
            ['transposed', new Tensor(base, [4, 2, 3], [1, 12, 4])],
            ['sliced', new Tensor(base, [2, 2, 2], [12, 4, 2], 4)],
            ['scalar', new Tensor(base, [], [], 23)],
            ['empty', new Tensor(base, [3, 0], [1, 1], 24)],
            ['one', new Tensor(base, [1, 3], [99, 1], 1)],
            ['reversed', new Tensor(base, [3, 2], [1, 3])],
          ]),
        );
        const values = (name: string) => [...toFloat32(tensors.get(name)!)];
        const transposed = Array.from(
          { length: 24 },
          (_, i) => Math.floor(i / 6) + 12 * (Math.floor(i / 3) % 2) + 4 * (i % 3),
        );
        expect(values('transposed')).to.deep.equal(transposed);
        expect(values('sliced')).to.deep.equal([4, 6, 8, 10, 16, 18, 20, 22]);
        expect(values('scalar')).to.deep.equal([23]);
        expect(tensors.get('scalar')!.shape).to.deep.equal([]);
        expect(tensors.get('empty')).to.deep.equal({ dtype: 'F32', shape: [3, 0], data: new Float32Array(0) });
        expect(values('one')).to.deep.equal([1, 2, 3]);
        expect(values('reversed')).to.deep.equal([0, 3, 1, 4, 2, 5]);
      });

      it('keeps every dtype', async () => {
        const storages = [
          new Storage('a', 'DoubleStorage', Float64Array.of(Math.PI)),
          new Storage('b', 'HalfStorage', Uint16Array.of(0x3c00, 0xc000)),
          new Storage('c', 'BFloat16Storage', Uint16Array.of(0x3f80)),
          new Storage('d', 'LongStorage', BigInt64Array.of(-1n, 2n ** 62n)),
          new Storage('e', 'IntStorage', Int32Array.of(-5)),
          new Storage('f', 'ShortStorage', Int16Array.of(-6)),
          new Storage('g', 'CharStorage', Int8Array.of(-7, 1, 2)),
          new Storage('h', 'ByteStorage', Uint8Array.of(255)),
          new Storage('i', 'BoolStorage', Uint8Array.of(1, 0)),
        ];
        const dtypes = ['F64', 'F16', 'BF16', 'I64', 'I32', 'I16', 'I8', 'U8', 'BOOL'];
        const { tensors } = await read(new Map(storages.map((s) => [s.key, new Tensor(s, [s.length])])), storages);
        storages.forEach(({ key, array, length }, i) => {
          expect(tensors.get(key), key).to.deep.equal({ dtype: dtypes[i], shape: [length], data: array });
        });
      });

      it('keeps names that are special to JavaScript', async () => {
        const { tensors, settings } = await read(
          new Map<string, unknown>([
            ['state_dict', new Map([['__proto__', new Tensor(base, [1])]])],
            ['__proto__', 3],
          ]),
        );
        expect([...tensors.keys()]).to.deep.equal(['__proto__']);
        expect(Object.entries(settings)).to.deep.equal([['__proto__', 3]]);
      });

      const lone = (tensor: Tensor) => new Map([['w', tensor]]);
      const wrong: [string, unknown, Storage[], RegExp][] = [
        [
          'a tensor larger than its storage',
          lone(new Tensor(base, [25])),
          [base],
          /\[25\] reaches beyond its storage of 24/,
        ],
        ['an offset beyond the storage', lone(new Tensor(base, [2], [1], 23)), [base], /reaches beyond/],
        ['an offset beyond the storage, of nothing', lone(new Tensor(base, [0], [1], 99)), [base], /reaches beyond/],
        ['strides beyond the storage', lone(new Tensor(base, [2, 2], [23, 1])), [base], /reaches beyond/],
        [
          'a small storage blown up by strides of 0',
          lone(new Tensor(base, [2 ** 30, 2 ** 20], [0, 0])),
          [base],
          /reaches beyond/,
        ],
        [
          'sizes whose product overflows',
          lone(new Tensor(base, [2 ** 30, 2 ** 30, 2 ** 30], [2 ** 30, 2 ** 30, 2 ** 30])),
          [base],
          /reaches beyond/,
        ],
        ['a negative size', lone(new Tensor(base, [-1], [1])), [base], /description of a tensor is malformed/],
        ['a negative stride', lone(new Tensor(base, [2], [-1], 5)), [base], /malformed/],
        ['a fractional size', lone(new Tensor(base, [1.5], [1])), [base], /malformed/],
        ['a size beyond 2^53', lone(new Tensor(base, [2 ** 60], [0])), [base], /malformed|reaches beyond/],
        ['more strides than sizes', lone(new Tensor(base, [2], [1, 1])), [base], /1 sizes and 2 strides/],
        ['65 dimensions', lone(new Tensor(base, new Array<number>(65).fill(1))), [base], /65 sizes/],
        ['a missing storage', lone(new Tensor(base, [1])), [], /missing/],
        [
          'a storage that claims more than is there',
          lone(new Tensor(new Storage('0', 'FloatStorage', floats(1), 3), [1])),
          [new Storage('0', 'FloatStorage', floats(1))],
          /holds 4 bytes, expected|says it has 1/,
        ],
        [
          'a storage of complex numbers',
          lone(new Tensor(new Storage('0', 'ComplexFloatStorage', floats(1, 2)), [1])),
          [],
          /"torch\.ComplexFloatStorage"/,
        ],
        [
          'one storage under two descriptions',
          new Map([
            ['a', new Tensor(base, [1])],
            ['b', new Tensor(new Storage('0', 'IntStorage', Int32Array.of(1)), [1])],
          ]),
          [base],
          /described twice/,
        ],
        ['a number in place of a dict', 12, [], /expected a dict of weights, found another/],
        ['a dict without tensors', new Map([['epoch', 3]]), [], /found no tensor/],
        [
          'a name with control characters',
          new Map([['a\x1b[2J', new Tensor(base, [1])]]),
          [base],
          /control characters/,
        ],
        ['a name of a thousand letters', new Map([['a'.repeat(1001), new Tensor(base, [1])]]), [base], /too long/],
        [
          'many views that would fill the memory',
          new Map(
            Array.from({ length: 1000 }, (_, i) => [
              `w${i}`,
              new Tensor(new Storage('0', 'ByteStorage', new Uint8Array(100_000)), [100_000]),
            ]),
          ),
          [new Storage('0', 'ByteStorage', new Uint8Array(100_000))],
          /would take 100000000 bytes/,
        ],
      ];
      for (const [what, value, storages, says] of wrong) {
        it(`refuses ${what}`, async () => expect(await refusal(write(value, storages))).to.match(says));
      }

      it('refuses a file cut off at any byte', async function () {
        this.timeout(20_000);
        const whole = write(lone(new Tensor(new Storage('0', 'FloatStorage', floats(1, 2, 3)), [3])), [
          new Storage('0', 'FloatStorage', floats(1, 2, 3)),
        ]);
        for (let length = 0; length < whole.length; length++) await refusal(whole.subarray(0, length));
      });
    });
  }

  describe('zip archives', () => {
    const storage = new Storage('0', 'FloatStorage', floats(1, 2));
    const value = new Map([['w', new Tensor(storage, [2])]]);

    it('may be zip64', async () => {
      const { tensors } = await parseTorchCheckpoint(memorySource(torchZip(value, [storage], { zip64: true })));
      expect([...tensors.get('w')!.data]).to.deep.equal([1, 2]);
    });

    it('may hold a comment', async () => {
      const bytes = torchZip(value, [storage]);
      bytes.writeUInt16LE(5, bytes.length - 2);
      const { tensors } = await parseTorchCheckpoint(memorySource(Buffer.concat([bytes, Buffer.from('PK\x05\x06!')])));
      expect(tensors.size).to.equal(1);
    });

    const entries = (extra: [string, Buffer][]): [string, Buffer][] => [
      ['a/data.pkl', pickle(value)],
      ['a/data/0', storage.bytes],
      ...extra,
    ];
    const bad: [string, () => Buffer, RegExp][] = [
      ['compressed entries', () => torchZip(value, [storage], { method: 8 }), /compressed or encrypted/],
      ['an archive of something else', () => zip([['photo.jpg', Buffer.alloc(9)]]), /without data\.pkl/],
      ['two entries of one name', () => zip(entries([['a/data/0', storage.bytes]])), /two entries/],
      ['big-endian numbers', () => zip(entries([['a/byteorder', Buffer.from('big')]])), /big-endian/],
      [
        'a number that changed',
        () => {
          const bytes = torchZip(value, [storage]);
          bytes[bytes.indexOf(storage.bytes)] ^= 1;
          return bytes;
        },
        /does not fit its checksum/,
      ],
      [
        'a directory that claims 4 GiB',
        () => {
          const bytes = torchZip(value, [storage]);
          bytes.writeUInt32LE(0xfffffff0, bytes.length - 10);
          return bytes;
        },
        /zip directory claims|stands at bytes/,
      ],
      [
        'a zip64 directory anywhere',
        () => {
          const bytes = torchZip(value, [storage], { zip64: true });
          bytes.writeBigUInt64LE(2n ** 63n, bytes.length - 22 - 12);
          return bytes;
        },
        /zip64 directory stands at bytes/,
      ],
      [
        'a zip64 count of 2^64-1 entries',
        () => {
          const bytes = torchZip(value, [storage], { zip64: true });
          bytes.fill(0xff, bytes.length - 22 - 20 - 56 + 32, bytes.length - 22 - 20 - 56 + 40);
          return bytes;
        },
        /zip directory is malformed/,
      ],
    ];
    for (const [what, bytes, says] of bad) {
      it(`refuses ${what}`, async () => expect(await refusal(bytes())).to.match(says));
    }
  });

  it('refuses files of other programs, folders and missing files', async () => {
    expect(await refusal(Buffer.alloc(0))).to.match(/no file of torch\.save/);
    expect(await refusal(Buffer.from('GIF89a and more'))).to.match(/no file of torch\.save/);
    expect(await refusal(pickle(new Map()))).to.match(/no file of torch\.save/);
    for (const [file, says] of [
      [tmpdir(), /found a folder/],
      [join(tmpdir(), 'no-such.pth'), /no such file/],
    ] as const) {
      const error = await readTorchCheckpoint(file).catch((e: Error) => e);
      expect(error).to.be.instanceOf(TorchFileError).with.property('message').that.matches(says);
    }
  });

  describe('hostile files', () => {
    let folder: string;
    let marker: string;
    let started: string[];
    const originals = { ...childProcess };

    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'slimclr-hostile-'));
      marker = join(folder, 'marker');
    });
    after(() => rmSync(folder, { recursive: true }));
    beforeEach(() => {
      started = [];
      for (const name of ['spawn', 'spawnSync', 'exec', 'execSync', 'execFile', 'execFileSync', 'fork'] as const) {
        (childProcess as Record<string, unknown>)[name] = () => started.push(name);
      }
    });
    afterEach(() => {
      Object.assign(childProcess, originals);
      expect(started, 'processes').to.deep.equal([]);
      expect(existsSync(marker), 'the marker').to.equal(false);
    });

    const call = (module: string, name: string, ...args: unknown[]) =>
      pickle(new Call(new Global(module, name), tuple(...args)));
    const calls: [string, () => Buffer, string][] = [
      ['os.system', () => call('os', 'system', `touch ${marker}`), 'os.system'],
      ['posix.system', () => call('posix', 'system', `touch ${marker}`), 'posix.system'],
      ['subprocess.Popen', () => call('subprocess', 'Popen', ['touch', marker]), 'subprocess.Popen'],
      ['builtins.eval', () => call('builtins', 'eval', '1'), 'builtins.eval'],
      ['builtins.exec', () => call('builtins', 'exec', 'import os'), 'builtins.exec'],
      ['Python 2’s __builtin__.eval', () => call('__builtin__', 'eval', '1'), '__builtin__.eval'],
      ['builtins.getattr', () => call('builtins', 'getattr', 'a', '__class__'), 'builtins.getattr'],
      ['open', () => call('io', 'open', marker, 'w'), 'io.open'],
      ['numpy', () => call('numpy.core.multiarray', '_reconstruct'), 'numpy.core.multiarray._reconstruct'],
      [
        'a network as an object',
        () => call('torch.nn.modules.container', 'Sequential'),
        'torch.nn.modules.container.Sequential',
      ],
      ['a name of JavaScript', () => call('constructor', 'prototype'), 'constructor.prototype'],
      [
        'STACK_GLOBAL',
        () => rawPickle(Buffer.concat([opcodes('os'), opcodes('system'), Buffer.from('\x93', 'latin1')])),
        'os.system',
      ],
      ['INST', () => rawPickle(`(X\x01\x00\x00\x00aios\nsystem\n`), 'os.system'],
      [
        'a name with line breaks',
        () => rawPickle(Buffer.concat([opcodes('o\ns'), opcodes('s'), Buffer.from('\x93', 'latin1')])),
        'o\\ns.s',
      ],
      [
        'one inside a tensor',
        () =>
          pickle(
            new Map([
              [
                'state_dict',
                new Map([
                  [
                    'w',
                    new Call(
                      new Global('torch._utils', '_rebuild_tensor_v2'),
                      tuple(new Call(new Global('os', 'system'), tuple('x'))),
                    ),
                  ],
                ]),
              ],
            ]),
          ),
        'os.system',
      ],
    ];
    for (const format of formats) {
      for (const [what, bytes, name] of calls) {
        it(`that call ${what} are refused by name (${format})`, async () => {
          expect(await refusal(FORMATS[format](bytes()))).to.include(`asks for "${name}"`);
        });
      }
    }

    const u4 = (n: number) => String.fromCharCode(n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24);
    const bodies: [string, string, RegExp][] = [
      ['an unknown opcode', '\xf5', /opcode 0xf5/],
      ['EXT1', '\x82\x01', /opcode 0x82/],
      ['protocol 99', '\x80\x63N', /protocol is unknown/],
      ['text that claims 4 GiB', `X${u4(0xffffffff)}a`, /cut off/],
      ['text that claims 2^64 bytes', '\x8d\xff\xff\xff\xff\xff\xff\xff\xffa', /cut off/],
      ['a frame of 2^64 bytes', '\x95\xff\xff\xff\xff\xff\xff\xff\xff', /cut off/],
      ['an integer of 4 GiB', `\x8b${u4(0xffffffff)}a`, /integer of 4294967295 bytes/],
      ['text that is no UTF-8', `X${u4(1)}\xff`, /no UTF-8/],
      ['an empty stack', '0', /takes a value that is not there/],
      ['an end without a value', '', /takes a value that is not there/],
      ['a value taken from below a mark', 'N(0', /takes a value that is not there/],
      ['a list closed without a mark', 'Nt', /closes what it did not open/],
      ['a memo that was never stored', 'h\x05', /recalls value 5/],
      ['a memo of 2^32-1', `Nr${u4(0xffffffff)}j${u4(0xfffffffe)}`, /recalls value 4294967294/],
      ['items of no dict', 'NNNs', /no dict/],
      ['an odd number of items', '}(Nu', /no dict/],
      ['items appended to no list', 'NNa', /no list/],
      ['a call of text', 'X\x01\x00\x00\x00a)R', /no function/],
      ['a call without a tuple', 'ccollections\nOrderedDict\nNR', /no function/],
      ['a call of a storage type', 'ctorch\nFloatStorage\n)R', /no function/],
      ['OrderedDict of a number', 'ccollections\nOrderedDict\nK\x01\x85R', /list of pairs/],
      ['OrderedDict of triples', 'ccollections\nOrderedDict\n]NNN\x87a\x85R', /list of pairs/],
      ['attributes of a list', ']}b', /attributes of something that is no dict/],
      ['a storage described by text', 'X\x01\x00\x00\x00aQ', /no tuple/],
      ['a storage described by nothing', ')Q', /malformed/],
      ['a tensor of nothing', 'ctorch._utils\n_rebuild_tensor_v2\n)R', /malformed/],
      ['a million marks', '('.repeat(1_000_000), /stacks over 100000/],
      ['a million values', 'N'.repeat(1_000_000), /stacks over 100000/],
      ['a list inside itself', ']q\x00h\x00ah\x00ah\x00', /expected a dict of weights/],
    ];
    for (const [what, body, says] of bodies) {
      it(`with ${what} are refused`, async () => {
        for (const format of formats) expect(await refusal(FORMATS[format](rawPickle(body)))).to.match(says);
      });
    }

    it('that memoise ten million times, or hold as many values, are refused before they fill the memory', async () => {
      for (const body of [
        `N${'\x94'.repeat(10_000_000)}`,
        `](${'}'.repeat(90_000)}e`.repeat(100),
        'N0'.repeat(5_000_000),
      ]) {
        expect(await refusal(torchZip(rawPickle(body)))).to.match(/over 2000000 values/);
      }
    });

    it('whose entries all lie at one place are refused', async () => {
      const storages = Array.from(
        { length: 100 },
        (_, i) => new Storage(String(i), 'ByteStorage', new Uint8Array(i ? 0 : 100_000), 100_000),
      );
      const state = new Map(storages.map((storage, i) => [`w${i}`, new Tensor(storage, [1])]));
      const bytes = torchZip(state, storages);
      // Every entry of the directory is led to the first storage.
      const [size, crc, place] = [24, 16, 42];
      let first = -1;
      for (let at = bytes.indexOf('PK\x01\x02'); at >= 0; at = bytes.indexOf('PK\x01\x02', at + 4)) {
        if (!bytes.toString('latin1', at + 46, at + 59).startsWith('archive/data/')) continue;
        if (first < 0) first = at;
        for (const field of [size, size - 4, crc, place])
          bytes.copy(bytes, at + field, first + field, first + field + 4);
      }
      expect(await refusal(bytes)).to.match(/would take 10000000 bytes/);
    });

    it('nested a hundred thousand deep, or doubled by the memo a hundred times, cost no more than their bytes', async () => {
      const before = process.memoryUsage();
      const deep = `}(X\x01\x00\x00\x00a${']'.repeat(50_000)}${'a'.repeat(49_999)}u`;
      expect(await refusal(torchZip(rawPickle(deep)))).to.match(/no tensor/);
      let doubled = `}(X\x01\x00\x00\x00a]`;
      for (let i = 0; i < 100; i++) doubled += `q${String.fromCharCode(i)}h${String.fromCharCode(i)}\x86`;
      expect(await refusal(torchZip(rawPickle(`${doubled}u`)))).to.match(/no tensor/);
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      expect(heapUsed + arrayBuffers - before.heapUsed - before.arrayBuffers).to.be.below(100e6);
    });
  });

  describe('files damaged at random', () => {
    const storage = new Storage(
      '0',
      'FloatStorage',
      Float32Array.from({ length: 400 }, (_, i) => i),
    );
    const value = new Map<string, unknown>([
      ['epoch', 1],
      [
        'state_dict',
        new Map(Array.from({ length: 20 }, (_, i) => [`module.w${i}`, new Tensor(storage, [4, 5], [5, 1], 20 * i)])),
      ],
    ]);
    const files: [string, () => Buffer][] = formats.map((format) => [
      `a small ${format} file`,
      () => FORMATS[format](value, [storage]),
    ]);
    const folder = join(goldenFolder, 'checkpoint');
    if (existsSync(folder)) {
      for (const name of readdirSync(folder).filter((n) => n.endsWith('.pth.tar'))) {
        files.push([name, () => readFileSync(join(folder, name))]);
      }
    }
    for (const [name, bytes] of files) {
      it(`are read or refused in a sentence: 250 of ${name}`, async function () {
        this.timeout(120_000);
        const whole = bytes();
        const pickleEnd = Math.min(whole.length, 400_000);
        const hot = [
          [0, pickleEnd],
          [Math.max(0, whole.length - 200_000), whole.length],
        ] as const;
        const random = randomIntegers(2026);
        let refused = 0;
        for (let round = 0; round < 250; round++) {
          const damaged = mutate(whole, random, hot);
          try {
            const { tensors } = await parseTorchCheckpoint(memorySource(damaged));
            for (const { shape, data } of tensors.values()) {
              if (shape.reduce((product, n) => product * n, 1) !== data.length) expect.fail('a tensor of another size');
            }
          } catch (error) {
            expect(error, String(error)).to.be.instanceOf(TorchFileError);
            expect((error as Error).message).to.match(/^\[torch\] memory\.pth\.tar: [^\n]+$/);
            refused++;
          }
        }
        expect(refused).to.be.within(50, 250);
      });
    }
  });
});
