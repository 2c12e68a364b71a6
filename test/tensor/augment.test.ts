import { expect } from 'chai';
import {
  augment,
  augmentParams,
  augmentRaw,
  scope,
  tensor,
  zeros,
  type AugmentRecipe,
  type AugmentRecipeName,
  type Tensor,
} from '../../lib/tensor';
import { numbers } from './gradient-check';

// Columns of the table of parameters (native/core/augment_params.h).
const [cropTop, cropLeft, cropHeight, cropWidth, resizeHeight, resizeWidth, flip, jitter0] = [0, 1, 2, 3, 4, 5, 8, 9];
const [brightness, contrast, hue, gray, blurSigma, solarize, columns] = [13, 14, 16, 17, 18, 19, 20];

const sides: readonly (readonly [number, number])[] = [
  [8, 8],
  [13, 7],
  [6, 21],
];

interface Pictures {
  pixels: Tensor;
  offsets: Tensor;
  sizes: Tensor;
  /** Interleaved bytes of each picture. */
  bytes: Uint8Array[];
}

function pictures(shapes = sides): Pictures {
  const bytes = shapes.map(([h, w], i) => Uint8Array.from(numbers(3 * h * w, 5 + i), (v) => Math.floor(128 * (v + 1))));
  const offsets: bigint[] = [];
  let at = 0;
  for (const picture of bytes) {
    offsets.push(BigInt(at));
    at += picture.length;
  }
  const all = new Uint8Array(at);
  bytes.forEach((picture, i) => all.set(picture, Number(offsets[i])));
  const n = shapes.length;
  return {
    pixels: tensor(all, [at]),
    offsets: tensor(BigInt64Array.from(offsets), [n]),
    sizes: tensor(Int32Array.from(shapes.flat()), [n, 2]),
    bytes,
  };
}

/** A row of the table that changes nothing, with some columns set. */
function row(set: Record<number, number> = {}): number[] {
  const out = new Array<number>(columns).fill(0);
  for (const factor of [brightness, contrast, 15]) out[factor] = 1;
  out[solarize] = -1;
  for (const [column, value] of Object.entries(set)) out[Number(column)] = value;
  return out;
}

const table = (rows: number[][]): Tensor => tensor(rows.flat(), [rows.length, columns]);
const plain = { mean: [0.5, 0.25, 0.75], std: [0.5, 0.2, 0.1] };

/** Draws for n pictures of one size: a row of numbers for each. */
function draw(recipe: AugmentRecipeName | AugmentRecipe, n: number, size: [number, number], seed = 1): Float32Array[] {
  return scope(() => {
    const sizes = tensor(
      Int32Array.from({ length: 2 * n }, (_, i) => size[i % 2]),
      [n, 2],
    );
    const data = augmentParams(recipe, sizes, {
      seed,
      offset: zeros([1], { dtype: 'int64' }),
    }).dataSync() as Float32Array;
    return Array.from({ length: n }, (_, i) => data.slice(columns * i, columns * (i + 1)));
  });
}

describe('augment', () => {
  it('with an identity crop reproduces the pixels exactly, normalised, in float32 and bfloat16', () => {
    scope(() => {
      sides.forEach(([h, w]) => {
        const p = pictures([[h, w]]);
        const data = augment(p.pixels, p.offsets, p.sizes, table([row()]), { size: [h, w], ...plain }).dataSync();
        const half = augment(p.pixels, p.offsets, p.sizes, table([row()]), {
          size: [h, w],
          ...plain,
          dtype: 'bfloat16',
        });
        const rounded = half.dataSync();
        for (let c = 0; c < 3; c++)
          for (let i = 0; i < h * w; i++) {
            const exact = (p.bytes[0][3 * i + c] / 255 - plain.mean[c]) / plain.std[c];
            expect(data[c * h * w + i]).closeTo(exact, 2e-6 * (1 + Math.abs(exact)));
            expect(rounded[c * h * w + i]).closeTo(exact, 2 ** -8 * Math.abs(exact) + 1e-6);
          }
      });
    });
  });

  it('crops, flips, and leaves bytes as they are', () => {
    scope(() => {
      const p = pictures();
      const crop = { [cropTop]: 2, [cropLeft]: 3, [cropHeight]: 4, [cropWidth]: 4 };
      const params = table([row(crop), row({ ...crop, [flip]: 1 }), row(crop)]);
      const out = augmentRaw(p.pixels, p.offsets, p.sizes, params, { size: 4 }).dataSync();
      sides.forEach(([, w], n) => {
        for (let y = 0; y < 4; y++)
          for (let x = 0; x < 4; x++)
            for (let c = 0; c < 3; c++) {
              const from = n === 1 ? 3 - x : x;
              expect(out[((n * 4 + y) * 4 + x) * 3 + c]).equal(p.bytes[n][((y + 2) * w + from + 3) * 3 + c]);
            }
      });
    });
  });

  it('inverts from the threshold on, and turns grey', () => {
    scope(() => {
      const p = pictures([[8, 8]]);
      const raw = (set: Record<number, number>) =>
        augmentRaw(p.pixels, p.offsets, p.sizes, table([row(set)]), { size: 8 }).dataSync() as Uint8Array;
      raw({ [solarize]: 100 }).forEach((v, i) => {
        const before = p.bytes[0][i];
        expect(v).equal(before >= 100 ? 255 - before : before);
      });
      const grey = raw({ [gray]: 1 });
      for (let i = 0; i < 64; i++) {
        const [r, g, b] = p.bytes[0].subarray(3 * i, 3 * i + 3);
        expect(grey[3 * i]).closeTo(0.299 * r + 0.587 * g + 0.114 * b, 1);
        expect([grey[3 * i + 1], grey[3 * i + 2]]).eql([grey[3 * i], grey[3 * i]]);
      }
    });
  });

  it('resizes to the output at least', () => {
    scope(() => {
      const p = pictures([[8, 8]]);
      const raw = (set: Record<number, number>) =>
        augmentRaw(p.pixels, p.offsets, p.sizes, table([row(set)]), { size: 12 }).dataSync();
      expect(raw({ [resizeHeight]: 3, [resizeWidth]: 3 })).eql(raw({}));
    });
  });

  it('is safe with any parameters', () => {
    const values = [NaN, Infinity, -Infinity, 1e38, -1e38, -1, 0.5, 2 ** 31, 1e-40];
    scope(() => {
      const p = pictures();
      for (const value of values) {
        const rows = sides.map(() => new Array<number>(columns).fill(value));
        const out = augment(p.pixels, p.offsets, p.sizes, table(rows), {
          size: 9,
          ...plain,
        }).dataSync() as Float32Array;
        for (const v of out) expect(Number.isFinite(v), `with ${value}`).equal(true);
        for (let column = 0; column < columns; column++) {
          const one = sides.map(() => row({ [column]: value }));
          augmentRaw(p.pixels, p.offsets, p.sizes, table(one), { size: 5 }).dataSync();
        }
      }
    });
  });

  it('rejects pictures outside the buffer when it is read, and goes on', async () => {
    const p = pictures();
    const params = table(sides.map(() => row()));
    const total = p.pixels.size;
    const cases: [bigint, number, number][] = [
      [-1n, 4, 4],
      [BigInt(total - 47), 4, 4],
      [2n ** 63n - 1n, 1, 1],
      [0n, 0, 4],
      [0n, -4, -4],
      [0n, 2 ** 31 - 1, 2 ** 31 - 1],
    ];
    for (const [offset, h, w] of cases) {
      const offsets = tensor(BigInt64Array.of(0n, offset, 0n), [3]);
      const sizes = tensor(Int32Array.of(8, 8, h, w, 8, 8), [3, 2]);
      const out = augment(p.pixels, offsets, sizes, params, { size: 8, ...plain });
      const message = await out.data().then(
        () => 'no error',
        (e: Error) => e.message,
      );
      expect(message).match(/\[augment\] image 1 of the batch does not lie within the \d+ bytes of pixels/);
      for (const t of [offsets, sizes, out]) t.dispose();
    }
    const fine = augment(p.pixels, p.offsets, p.sizes, params, { size: 8, ...plain });
    expect((await fine.data()).length).equal(3 * 3 * 64);
    for (const t of [p.pixels, p.offsets, p.sizes, params, fine]) t.dispose();
  });

  it('names what was wrong', () => {
    scope(() => {
      const p = pictures();
      const params = table(sides.map(() => row()));
      const call = (options: object, pixels = p.pixels, table = params) =>
        augment(pixels, p.offsets, p.sizes, table, { size: 8, ...plain, ...options });
      expect(() => call({ size: 0 })).throw(RangeError, /\[augment\] expected an output of 1…16384 pixels/);
      expect(() => call({ size: 2.5 })).throw(RangeError, /height to be an integer/);
      expect(() => call({ mean: [0, 0] })).throw(RangeError, /mean and std of 3 numbers, received 2 and 3/);
      expect(() => call({ std: [1, 0, 1] })).throw(RangeError, /std > 0 per channel/);
      expect(() => call({ mean: [NaN, 0, 0] })).throw(RangeError, /finite mean/);
      expect(() => call({ dtype: 'uint8' })).throw(TypeError, /float32, bfloat16 or float16, received uint8/);
      expect(() => call({}, zeros([8]))).throw(TypeError, /pixels of uint8/);
      expect(() => call({}, p.pixels, zeros([3, 19]))).throw(RangeError, /params of shape \[3, 20\]/);
    });
  });
});

describe('augmentParams', () => {
  it('depends on seed, stream and offset, not on how the batch is split', () => {
    scope(() => {
      const n = 10;
      const sizes = Int32Array.from({ length: 2 * n }, (_, i) => 20 + ((7 * i) % 30));
      const run = (from: number, to: number, seed = 3, stream = 1, offset = 100n): number[] => {
        const part = tensor(sizes.slice(2 * from, 2 * to), [to - from, 2]);
        const start = tensor(BigInt64Array.of(offset + BigInt(from)), [1]);
        return Array.from(augmentParams('mocov2', part, { seed, stream, offset: start }).dataSync() as Float32Array);
      };
      const whole = run(0, n);
      expect(run(0, n)).eql(whole);
      expect([...run(0, 3), ...run(3, 4), ...run(4, n)]).eql(whole);
      for (const other of [run(0, n, 4), run(0, n, 3, 2), run(0, n, 3, 1, 101n)]) expect(other).not.eql(whole);
    });
  });

  it('draws what the recipe says: 2,000 draws', () => {
    const n = 2000;
    const [h, w] = [60, 80];
    // Five standard deviations of a share p.
    const share = (rows: readonly Float32Array[], test: (r: Float32Array) => boolean, p: number): void => {
      expect(rows.filter(test).length / n).closeTo(p, 5 * Math.sqrt((p * (1 - p)) / n));
    };
    const rows = draw('mocov2', n, [h, w]);
    share(rows, (r) => r[flip] === 1, 0.5);
    share(rows, (r) => r[jitter0] !== 0, 0.8);
    share(rows, (r) => r[gray] === 1, 0.2);
    share(rows, (r) => r[blurSigma] > 0, 0.5);
    share(rows, (r) => r[solarize] >= 0, 0);
    const areas = rows.map((r) => (r[cropHeight] * r[cropWidth]) / (h * w));
    expect(Math.min(...areas)).within(0.19, 0.25); // sides are rounded to pixels
    expect(Math.max(...areas)).within(0.85, 1);
    for (const r of rows) {
      expect(r[cropTop]).within(0, h - r[cropHeight]);
      expect(r[cropLeft]).within(0, w - r[cropWidth]);
      expect(r[cropWidth] / r[cropHeight]).within(0.7, 1.43);
      expect(r[brightness]).within(0.6, 1.4);
      expect(r[hue]).within(-0.1, 0.1);
      if (r[blurSigma] > 0) expect(r[blurSigma]).within(0.1, 2);
      if (r[jitter0] !== 0) expect(Array.from(r.slice(jitter0, jitter0 + 4)).sort()).eql([1, 2, 3, 4]);
    }
    const mean = rows.reduce((sum, r) => sum + r[brightness], 0) / n;
    expect(mean).closeTo(1, 0.02);
    share(draw('mocov3-view2', n, [h, w]), (r) => r[solarize] === 128, 0.2);
    share(draw({ flipP: 1, cropMin: 1 }, n, [h, w]), (r) => r[flip] === 1, 1);
    share(draw({ grayP: 0.3, grayFirst: true }, n, [h, w]), (r) => r[gray] === 2, 0.3);
    share(draw({ grayP: 0.3, grayFirst: false }, n, [h, w]), (r) => r[gray] === 1, 0.3);
    share(draw('mocov1', n, [h, w]), (r) => r[gray] === 2, 0.2);
  });

  // method.md, "Augmentations": crop from, brightness, contrast, saturation, hue, and the probabilities.
  const published = {
    mocov1: { crop: 0.2, strengths: [0.4, 0.4, 0.4, 0.4], jitterP: 1, grayP: 0.2, blurP: 0, solarizeP: 0 },
    mocov2: { crop: 0.2, strengths: [0.4, 0.4, 0.4, 0.1], jitterP: 0.8, grayP: 0.2, blurP: 0.5, solarizeP: 0 },
    'mocov3-view1': { crop: 0.2, strengths: [0.4, 0.4, 0.2, 0.1], jitterP: 0.8, grayP: 0.2, blurP: 1, solarizeP: 0 },
    'mocov3-view2': {
      crop: 0.2,
      strengths: [0.4, 0.4, 0.2, 0.1],
      jitterP: 0.8,
      grayP: 0.2,
      blurP: 0.1,
      solarizeP: 0.2,
    },
    simclr: { crop: 0.08, strengths: [0.8, 0.8, 0.8, 0.2], jitterP: 0.8, grayP: 0.2, blurP: 0.5, solarizeP: 0 },
    cifar: { crop: 0.2, strengths: [0.4, 0.4, 0.4, 0.1], jitterP: 0.8, grayP: 0.2, blurP: 0, solarizeP: 0 },
    normal: { crop: 0.08, strengths: [0, 0, 0, 0], jitterP: 0, grayP: 0, blurP: 0, solarizeP: 0 },
  } as const;
  for (const [name, { crop, strengths, jitterP, grayP, blurP, solarizeP }] of Object.entries(published)) {
    it(`has the constants of ${name}`, () => {
      const n = 3000;
      const rows = draw(name as AugmentRecipeName, n, [400, 300]);
      const share = (test: (r: Float32Array) => boolean, p: number) =>
        expect(rows.filter(test).length / n).closeTo(p, 5 * Math.sqrt((p * (1 - p)) / n));
      const range = (column: number, low: number, high: number) => {
        const values = rows.map((r) => r[column]);
        const slack = 0.03 * (high - low);
        for (const [actual, bound] of [
          [Math.min(...values), low],
          [Math.max(...values), high],
        ])
          expect(actual).within(bound - slack - 1e-6, bound + slack + 1e-6);
      };
      share((r) => r[flip] === 1, 0.5);
      share((r) => r[jitter0] !== 0, jitterP);
      share((r) => r[gray] !== 0, grayP);
      share((r) => r[blurSigma] > 0, blurP);
      share((r) => r[solarize] >= 0, solarizeP);
      if (blurP > 0) expect(Math.max(...rows.map((r) => r[blurSigma]))).within(1.8, 2);
      strengths.slice(0, 3).forEach((s, i) => range(brightness + i, 1 - s, 1 + s));
      range(hue, -strengths[3], strengths[3]);
      const areas = rows.map((r) => (r[cropHeight] * r[cropWidth]) / (400 * 300));
      expect(Math.min(...areas)).within(crop - 0.005, crop + 0.02);
      expect(Math.max(...areas)).within(0.9, 1);
    });
  }

  it('changes a published recipe', () => {
    expect(draw({ base: 'mocov2' }, 20, [40, 40])).eql(draw('mocov2', 20, [40, 40]));
    const grey = draw({ base: 'cifar', grayP: 1, cropMin: undefined }, 20, [40, 40]);
    draw('cifar', 20, [40, 40]).forEach((row, i) => {
      row[columns - 3] = 1; // gray
      expect(grey[i]).eql(row);
    });
  });

  it('takes a value that is undefined for the default', () => {
    expect(draw({ flipP: undefined, grayFirst: undefined }, 20, [9, 9])).eql(draw({}, 20, [9, 9]));
  });

  it('of a centre resize draws nothing', () => {
    const [r] = draw({ centreResize: 32 }, 1, [60, 80]);
    expect([r[cropHeight], r[cropWidth], r[resizeHeight], r[resizeWidth], r[flip]]).eql([60, 80, 32, 42, 0]);
    expect(draw('val', 1, [300, 400], 1)).eql(draw('val', 1, [300, 400], 2));
  });

  it('names what is wrong with a recipe', () => {
    const bad: [unknown, RegExp][] = [
      [{ base: 'cifra' }, /recipe to be one of .*received 'cifra'/],
      [{ base: 3 }, /recipe\.base to be a name, received/],
      ['mocov22', /recipe to be one of mocov1, mocov2, .*val, received 'mocov22'/],
      [{ flip: 0.5 }, /unknown key recipe\.flip/],
      [{ flipP: 1.5 }, /recipe\.flipP in 0…1, received 1\.5/],
      [{ jitterP: -0.1 }, /recipe\.jitterP in 0…1/],
      [{ grayP: NaN }, /recipe\.grayP to be a finite number, received nan/],
      [{ blurP: Infinity }, /recipe\.blurP to be a finite number/],
      [{ solarizeP: 2 }, /recipe\.solarizeP in 0…1/],
      [{ hue: 0.6 }, /recipe\.hue in 0…0\.5/],
      [{ brightness: -1 }, /recipe\.brightness/],
      [{ cropMin: 0.8, cropMax: 0.5 }, /recipe\.cropMin <= recipe\.cropMax, received 0\.8 and 0\.5/],
      [{ cropMax: 2 }, /recipe\.cropMax in 0…1/],
      [{ sigmaMin: 3 }, /recipe\.sigmaMin <= recipe\.sigmaMax/],
      [{ cropMin: 0, cropMax: 0 }, /recipe\.cropMax > 0, received 0/],
      [{ solarizeThreshold: -1 }, /recipe\.solarizeThreshold in 0…256, received -1/],
      [{ solarizeThreshold: 257 }, /recipe\.solarizeThreshold in 0…256/],
      [{ nonsense: undefined }, /unknown key recipe\.nonsense/],
      [{ contrast: 1001 }, /recipe\.contrast in 0…1000/],
      [{ saturation: '0.4' }, /recipe\.saturation to be a number, received '0\.4'/],
      [{ sigmaMin: -0.1 }, /recipe\.sigmaMin in 0…64/],
      [{ cropMin: -0.1 }, /recipe\.cropMin in 0…1/],
      [{ sigmaMax: 65 }, /recipe\.sigmaMax in 0…64/],
      [{ centreResize: -1 }, /recipe\.centreResize/],
      [{ centreResize: 2.5 }, /recipe\.centreResize to be an integer/],
      [{ centreResize: 1e6 }, /recipe\.centreResize/],
      [{ grayFirst: 1 }, /recipe\.grayFirst to be a boolean, received 1/],
      [{ flipP: true }, /recipe\.flipP to be a number, received true/],
      [null, /recipe to be a name or an object, received null/],
      [[], /received an array/],
    ];
    for (const [recipe, message] of bad) {
      expect(() => draw(recipe as AugmentRecipe, 1, [8, 8]), JSON.stringify(recipe)).throw(Error, message);
    }
    scope(() => {
      const offset = zeros([1], { dtype: 'int64' });
      const sizes = zeros([2, 2], { dtype: 'int32' });
      expect(() => augmentParams('cifar', zeros([2, 2]), { seed: 1, offset })).throw(TypeError, /sizes of int32/);
      expect(() => augmentParams('cifar', zeros([2, 3], { dtype: 'int32' }), { seed: 1, offset })).throw(
        RangeError,
        /\[N, 2\]/,
      );
      expect(() => augmentParams('cifar', sizes, { seed: -1, offset })).throw(RangeError, /seed in 0/);
      expect(() => augmentParams('cifar', sizes, { seed: 1.5, offset })).throw(RangeError, /seed to be an integer/);
      expect(() => augmentParams('cifar', sizes, { seed: 1, offset: zeros([1]) })).throw(TypeError, /offset of int64/);
      expect(augmentParams('cifar', sizes, { seed: 1, offset }).dataSync().length).equal(2 * columns); // empty pictures
    });
  });
});
