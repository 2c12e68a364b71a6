import { expect } from 'chai';
import { mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  readSafetensors,
  readSafetensorsHeader,
  SafetensorsError,
  toFloat32,
  writeSafetensors,
  type SafetensorsTensor,
} from '../../lib/io';

const EVERY_DTYPE: [string, SafetensorsTensor][] = [
  ['bool', { dtype: 'BOOL', shape: [3], data: Uint8Array.of(1, 0, 1) }],
  ['u8', { dtype: 'U8', shape: [2, 1], data: Uint8Array.of(0, 255) }],
  ['i8', { dtype: 'I8', shape: [1], data: Int8Array.of(-128) }],
  ['i16', { dtype: 'I16', shape: [2], data: Int16Array.of(-32768, 32767) }],
  ['i32', { dtype: 'I32', shape: [1, 2], data: Int32Array.of(-1, 2 ** 31 - 1) }],
  ['i64', { dtype: 'I64', shape: [2], data: BigInt64Array.of(-1n, 2n ** 62n) }],
  ['f16', { dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0xc000) }],
  ['bf16', { dtype: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0xc000) }],
  ['f32', { dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, -2, 3.5, NaN) }],
  ['f64', { dtype: 'F64', shape: [], data: Float64Array.of(Math.PI) }],
  ['empty', { dtype: 'F32', shape: [4, 0], data: new Float32Array(0) }],
];

/** A file of any header and any number of data bytes. */
function fileOf(header: unknown, dataBytes: number): Buffer {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes)]);
}

const f32 = (shape: unknown, begin: unknown, end: unknown): object => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

describe('safetensors', () => {
  let folder: string;
  let file: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'slimclr-safetensors-'));
    file = join(folder, 'x.safetensors');
  });
  after(() => rm(folder, { recursive: true }));

  async function failure(bytes: Buffer): Promise<SafetensorsError> {
    await writeFile(file, bytes);
    try {
      await readSafetensors(file);
    } catch (error) {
      expect(error).to.be.instanceOf(SafetensorsError);
      expect((error as Error).message).to.include(file);
      return error as SafetensorsError;
    }
    throw new Error(`read without an error: ${bytes.toString('latin1')}`);
  }

  it('reads back what it wrote, in every dtype', async () => {
    await writeSafetensors(file, EVERY_DTYPE, { arch: 'resnet20', 'ünï "code"\n': '1' });
    const { tensors, metadata } = await readSafetensors(file);
    expect(metadata).to.deep.equal({ arch: 'resnet20', 'ünï "code"\n': '1' });
    expect(tensors.size).to.equal(EVERY_DTYPE.length);
    for (const [name, tensor] of EVERY_DTYPE) expect(tensors.get(name), name).to.deep.equal(tensor);
  });

  it('writes the bytes that the format prescribes, the same each time, aligned', async () => {
    const tensors: [string, SafetensorsTensor][] = [
      ['10', { dtype: 'U8', shape: [1], data: Uint8Array.of(7) }],
      ['9', { dtype: 'F32', shape: [1], data: Float32Array.of(1) }],
    ];
    await writeSafetensors(file, tensors, { a: 'b' });
    const bytes = await readFile(file);
    const json =
      '{"__metadata__":{"a":"b"},"9":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"10":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}';
    const padded = json.padEnd(Math.ceil(json.length / 8) * 8);
    expect(bytes.readBigUInt64LE()).to.equal(BigInt(padded.length));
    expect(bytes.toString('latin1', 8)).to.equal(`${padded}\x00\x00\x80\x3f\x07`);
    await writeSafetensors(file, new Map(tensors), { a: 'b' });
    expect((await readFile(file)).equals(bytes)).to.equal(true);
  });

  it('reads the header alone, and chosen tensors alone', async () => {
    await writeSafetensors(file, EVERY_DTYPE, { k: 'v' });
    const header = await readSafetensorsHeader(file);
    expect(header.metadata).to.deep.equal({ k: 'v' });
    expect(header.tensors.get('f32')).to.include({ dtype: 'F32' });
    expect(header.tensors.get('f32')!.shape).to.deep.equal([2, 2]);
    const { tensors } = await readSafetensors(file, { names: ['i64', 'u8'] });
    expect([...tensors.keys()]).to.deep.equal(['i64', 'u8']);
    expect(tensors.get('u8')).to.deep.equal(EVERY_DTYPE[1][1]);
    const missing = await readSafetensors(file, { names: ['nope'] }).catch((error: Error) => error);
    expect(missing).to.be.instanceOf(SafetensorsError);
    expect((missing as Error).message).to.match(/expected a tensor "nope", found "i64"/);
  });

  it('writes views of larger buffers and keeps names that are special to JavaScript', async () => {
    const view = new Float32Array([0, 1, 2, 3]).subarray(1, 3);
    await writeSafetensors(
      file,
      [['__proto__', { dtype: 'F32', shape: [2], data: view }]],
      JSON.parse('{"__proto__":"m"}') as Record<string, string>,
    );
    const { tensors, metadata } = await readSafetensors(file);
    expect(tensors.get('__proto__')!.data).to.deep.equal(Float32Array.of(1, 2));
    expect(Object.entries(metadata)).to.deep.equal([['__proto__', 'm']]);
  });

  it('converts half and bfloat16 to float32 exactly', () => {
    const half = Uint16Array.of(0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00, 0x7e00);
    const values = toFloat32({ dtype: 'F16', shape: [11], data: half });
    const expected = [0, -0, 2 ** -24, 1023 * 2 ** -24, 2 ** -14, 1, -2, 65504, Infinity, -Infinity, NaN];
    expect(values).to.deep.equal(Float32Array.from(expected));
    const brain = toFloat32({ dtype: 'BF16', shape: [4], data: Uint16Array.of(0x3f80, 0xc0a0, 0x7f80, 0x0001) });
    expect(brain).to.deep.equal(Float32Array.of(1, -5, Infinity, 2 ** -133));
    expect(toFloat32({ dtype: 'F64', shape: [1], data: Float64Array.of(0.1) })).to.deep.equal(Float32Array.of(0.1));
    expect(() => toFloat32({ dtype: 'I32', shape: [1], data: Int32Array.of(1) })).to.throw(TypeError, /received I32/);
  });

  it('reads tensors at any address', async () => {
    const header = { b: { dtype: 'U8', shape: [1], data_offsets: [0, 1] }, a: f32([1], 1, 5) };
    const bytes = fileOf(header, 5);
    bytes.writeFloatLE(2.5, bytes.length - 4);
    await writeFile(file, bytes);
    expect((await readSafetensors(file)).tensors.get('a')!.data).to.deep.equal(Float32Array.of(2.5));
  });

  it('reads files beyond 2 GiB', async function () {
    this.timeout(20_000);
    const sizeOfFirst = 2 ** 31 + 8; // a hole: the file takes no room on the disk
    const header = {
      first: { dtype: 'U8', shape: [sizeOfFirst], data_offsets: [0, sizeOfFirst] },
      last: f32([1], sizeOfFirst, sizeOfFirst + 4),
    };
    const start = fileOf(header, 0);
    const handle = await open(file, 'w');
    await handle.write(start, 0, start.length, 0);
    await handle.write(new Uint8Array(Float32Array.of(42).buffer), 0, 4, start.length + sizeOfFirst);
    await handle.close();
    const { tensors } = await readSafetensors(file, { names: ['last'] });
    expect(tensors.get('last')!.data).to.deep.equal(Float32Array.of(42));
    await rm(file);
  });

  describe('refuses', () => {
    const cases: [string, unknown, number, RegExp][] = [
      ['a header that is no JSON', '{"a":', 0, /no valid JSON/],
      ['a header with a byte order mark', '\ufeff{}', 0, /no valid JSON/],
      ['an array as header', '[]', 0, /expected a JSON object/],
      ['null as header', 'null', 0, /expected a JSON object/],
      ['a number as header', '12', 0, /expected a JSON object/],
      ['an entry that is no object', { a: 1 }, 0, /expected an object, found 1/],
      ['an entry that is null', { a: null }, 0, /expected an object, found null/],
      [
        'an unknown dtype',
        { a: { dtype: 'F8', shape: [1], data_offsets: [0, 1] } },
        1,
        /expected a dtype of F64.*found "F8"/,
      ],
      [
        'a dtype that is a property of objects',
        { a: { dtype: 'toString', shape: [1], data_offsets: [0, 1] } },
        1,
        /expected a dtype/,
      ],
      ['a missing dtype', { a: { shape: [1], data_offsets: [0, 1] } }, 1, /expected a dtype/],
      ['a shape that is no list', { a: f32('4', 0, 4) }, 4, /expected a shape/],
      ['a negative size', { a: f32([-1], 0, 4) }, 4, /expected a shape/],
      ['a fractional size', { a: f32([0.5, 2], 0, 4) }, 4, /expected a shape/],
      [
        'a size beyond 2^53',
        '{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,4]}}',
        4,
        /expected a shape/,
      ],
      ['sizes whose product overflows', { a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4, /takes .* bytes/],
      [
        'sizes whose product wraps to the right number in 64 bits',
        { a: f32([2 ** 32, 2 ** 32], 0, 0) },
        0,
        /takes .* bytes/,
      ],
      ['a shape that does not fit its bytes', { a: f32([2], 0, 4) }, 4, /takes 8 bytes, but data_offsets give it 4/],
      ['offsets that are no pair', { a: { dtype: 'F32', shape: [1], data_offsets: [0] } }, 4, /expected data_offsets/],
      ['fractional offsets', { a: f32([1], 0.5, 4.5) }, 5, /expected data_offsets/],
      ['negative offsets', { a: f32([1], -4, 0) }, 4, /expected data_offsets/],
      ['offsets the wrong way round', { a: f32([1], 4, 0) }, 4, /expected data_offsets/],
      [
        'offsets beyond the file',
        { a: f32([1000], 0, 4000) },
        4,
        /ends at byte 4000 of the data, but the file holds 4/,
      ],
      ['overlapping tensors', { a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12, /"b" overlaps/],
      ['two tensors at one place', { a: f32([1], 0, 4), b: f32([1], 0, 4) }, 4, /overlaps/],
      ['a gap', { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12, /"b" leaves a gap/],
      ['bytes behind the last tensor', { a: f32([1], 0, 4) }, 5, /header describes/],
      [
        'a name that stands there twice',
        '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        1,
        /"a" stands there twice/,
      ],
      [
        'a field that stands there twice',
        '{"a":{"dtype":"U8","shape":[2],"shape":[1],"data_offsets":[0,1]}}',
        1,
        /"shape" stands there twice/,
      ],
      ['metadata that is no object', { __metadata__: [] }, 0, /__metadata__/],
      ['metadata that is no text', { __metadata__: { epoch: 3 } }, 0, /"epoch" to be a string, found 3/],
    ];
    for (const [what, header, dataBytes, message] of cases) {
      it(what, async () => expect((await failure(fileOf(header, dataBytes))).message).to.match(message));
    }

    for (const claimed of [0n, 1n, 3n, 100n, 100_000_001n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      it(`a header that claims ${claimed} bytes`, async () => {
        const bytes = fileOf({}, 0);
        bytes.writeBigUInt64LE(claimed);
        expect((await failure(bytes)).message).to.match(/claims|valid JSON/);
      });
    }

    it('a name that is no UTF-8', async () => {
      const bytes = fileOf('{"a?":1}', 0);
      bytes[11] = 0xff;
      expect((await failure(bytes)).message).to.match(/valid JSON/);
    });

    it('a file cut off at any byte', async function () {
      this.timeout(20_000);
      await writeSafetensors(file, EVERY_DTYPE, { key: 'value' });
      const whole = await readFile(file);
      for (let length = 0; length < whole.length; length++) await failure(whole.subarray(0, length));
    });

    it('a missing file and a folder', async () => {
      const missing = await readSafetensors(join(folder, 'none')).catch((error: Error) => error);
      expect(missing)
        .to.be.instanceOf(SafetensorsError)
        .with.property('message')
        .that.matches(/no such file/);
      const isFolder = await readSafetensors(folder).catch((error: Error) => error);
      expect(isFolder)
        .to.be.instanceOf(SafetensorsError)
        .with.property('message')
        .that.matches(/expected a file/);
    });
  });

  it('survives random damage: it reads, or says what is wrong', async function () {
    this.timeout(30_000);
    await writeSafetensors(file, EVERY_DTYPE, { key: 'value' });
    const whole = await readFile(file);
    let state = 12345;
    const random = (n: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * n);
    };
    let refused = 0;
    for (let round = 0; round < 1000; round++) {
      const bytes = Buffer.from(whole);
      const last = round % 2 ? bytes.length : 8 + Number(whole.readBigUInt64LE()); // half of the rounds in the header alone
      for (let n = 1 + random(6); n > 0; n--) bytes[random(last)] = random(2) ? random(256) : 48 + random(10);
      await writeFile(file, bytes);
      try {
        const { tensors } = await readSafetensors(file);
        for (const { shape, data } of tensors.values()) {
          expect(shape.reduce((product, size) => product * size, 1)).to.equal(data.length);
        }
      } catch (error) {
        expect(error).to.be.instanceOf(SafetensorsError);
        refused++;
      }
    }
    expect(refused).to.be.greaterThan(300);
  });

  describe('does not write', () => {
    const data = Float32Array.of(1, 2);
    const bad: [string, [string, SafetensorsTensor][], Record<string, string>, RegExp][] = [
      [
        'a shape that does not fit',
        [['a', { dtype: 'F32', shape: [3], data }]],
        {},
        /expected shape \[3\] to hold the 2 elements/,
      ],
      [
        'an array of another dtype',
        [['a', { dtype: 'I32', shape: [2], data }]],
        {},
        /expected a Int32Array for I32, received Float32Array/,
      ],
      ['an unknown dtype', [['a', { dtype: 'F8' as 'F32', shape: [2], data }]], {}, /expected a dtype/],
      [
        'one name twice',
        [
          ['a', { dtype: 'F32', shape: [2], data }],
          ['a', { dtype: 'F32', shape: [2], data }],
        ],
        {},
        /two tensors called "a"/,
      ],
      ['the format’s own name', [['__metadata__', { dtype: 'F32', shape: [2], data }]], {}, /belongs to the format/],
      ['metadata that is no text', [], { n: 1 as unknown as string }, /metadata "n" to be a string/],
    ];
    for (const [what, tensors, metadata, message] of bad) {
      it(what, async () => {
        await rm(file, { force: true });
        const error = await writeSafetensors(file, tensors, metadata).catch((e: Error) => e);
        expect(error).to.be.instanceOf(SafetensorsError).with.property('message').that.matches(message);
        expect(await stat(file).catch(() => null)).to.equal(null);
      });
    }
  });
});
