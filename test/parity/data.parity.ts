import { expect } from 'chai';
import { augmentRaw, knn, scope, tensor, type Tensor } from '../../lib/tensor';
import { expectNear } from './compare';
import { goldenTests, NotSupported, type Golden } from './goldens';

goldenTests('evaluation and images', '', (golden) => {
  if (golden.has('bank')) return checkKnn(golden);
  if (golden.metadata.cases !== undefined) return checkImages(golden);
  throw new NotSupported('unknown kind of file');
});

async function checkKnn(golden: Golden): Promise<void> {
  const classes = golden.shape('scores')[1];
  const scores = scope(() => {
    const labels = tensor(Int32Array.from(golden.integers('bank.labels')), golden.shape('bank.labels'));
    const [k, temperature] = [golden.json('k'), golden.json('temperature')];
    return knn(golden.tensor('query'), golden.tensor('bank'), labels, { k, temperature, classes });
  });
  await expectNear('scores', scores, golden.values('scores'), 1e-4);
  const values = (await scores.data()) as Float32Array;
  const predicted = golden.integers('predicted').map((_, n) => {
    const row = values.subarray(n * classes, (n + 1) * classes);
    return row.indexOf(Math.max(...row));
  });
  expect(predicted).to.deep.equal(golden.integers('predicted'));
}

interface Case {
  src: string;
  out: string;
  op: string;
  [setting: string]: number | string;
}

/** Columns of the table of augmentation parameters; native/core/augment_params.h explains them. */
const COLUMNS = [
  'cropTop',
  'cropLeft',
  'cropHeight',
  'cropWidth',
  'resizeHeight',
  'resizeWidth',
  'windowTop',
  'windowLeft',
  'flip',
  'jitter0',
  'jitter1',
  'jitter2',
  'jitter3',
  'brightness',
  'contrast',
  'saturation',
  'hue',
  'gray',
  'blurSigma',
  'solarize',
] as const;
type Column = (typeof COLUMNS)[number];

const IDENTITY: Partial<Record<Column, number>> = { brightness: 1, contrast: 1, saturation: 1, solarize: -1 };
const JITTER = ['brightness', 'contrast', 'saturation', 'hue'] as const;

/** The parameters that make a case's operation, and nothing else, happen. */
function parametersOf(c: Case, height: number, width: number): Partial<Record<Column, number>> {
  const setting = (name: string) => c[name] as number;
  const jitter = JITTER.findIndex((name) => name === c.op);
  if (jitter >= 0) return { jitter0: jitter + 1, [JITTER[jitter]]: setting('factor') };
  switch (c.op) {
    case 'crop':
      return {
        cropTop: setting('top'),
        cropLeft: setting('left'),
        cropHeight: setting('height'),
        cropWidth: setting('width'),
      };
    case 'gray':
      return { gray: 1 };
    case 'solarize':
      return { solarize: setting('threshold') };
    case 'blur':
      return { blurSigma: setting('sigma') };
    case 'flip':
      return { flip: 1 };
    case 'resize_center': {
      // The shorter side becomes `resize`, the longer one keeps the ratio, rounded down.
      const scale = setting('resize') / Math.min(height, width);
      const [resizeHeight, resizeWidth] = [height, width].map((side) => Math.floor(side * scale + 1e-9));
      return { resizeHeight, resizeWidth, windowTop: -1, windowLeft: -1 };
    }
    default:
      throw new NotSupported(`operation ${c.op}`);
  }
}

async function checkImages(golden: Golden): Promise<void> {
  for (const c of golden.json<Case[]>('cases')) {
    const [height, width] = golden.shape(c.src);
    const [outHeight, outWidth] = golden.shape(c.out);
    const settings = { ...IDENTITY, ...parametersOf(c, height, width) };
    const out = scope((): Tensor => {
      const pixels = Uint8Array.from(golden.integers(c.src));
      const params = COLUMNS.map((column) => settings[column] ?? 0);
      return augmentRaw(
        tensor(pixels, [pixels.length]),
        tensor([0], [1], { dtype: 'int64' }),
        tensor([height, width], [1, 2], { dtype: 'int32' }),
        tensor(params, [1, params.length]),
        { size: [outHeight, outWidth] },
      );
    });
    const expected = golden.integers(c.out);
    const actual = await out.data();
    out.dispose();
    expect(actual.length, c.out).to.equal(expected.length);
    const difference = expected.reduce((sum, v, i) => sum + Math.abs(Number(actual[i]) - v), 0) / expected.length;
    expect(difference, `${c.out}: mean absolute difference, of 255`).to.be.at.most(c.op === 'blur' ? 2 : 1);
  }
}
