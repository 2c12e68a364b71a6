import { expect } from 'chai';
import {
  ARCHITECTURES,
  encoderPrefix,
  HEADS,
  inferNetwork,
  slimChannels,
  SlimmableResNet,
  type Arch,
  type HeadKind,
  type ResNetOptions,
} from '../../lib/nn';

type Shapes = Map<string, { shape: readonly number[] }>;

/** Names and shapes of a network's tensors. */
function shapesOf(options: ResNetOptions): Shapes {
  const net = new SlimmableResNet(options);
  const shapes = new Map([...net.stateDict()].map(([name, { shape }]) => [name, { shape: [...shape] }]));
  net.dispose();
  return shapes;
}

describe('inferNetwork', () => {
  const archs = Object.keys(ARCHITECTURES) as Arch[];
  const needsMlp = (head: HeadKind) => head === 'mocov3_slim' || head === 'simclr_slim';

  for (const [n, arch] of archs.entries()) {
    const head = HEADS[n % HEADS.length];
    it(`tells ${arch} with ${head}`, () => {
      const options: ResNetOptions = {
        arch,
        head,
        outDim: 6,
        mlpDim: needsMlp(head) ? 20 : undefined,
        widths: [1, 0.75, 0.5, 0.25],
        baseWidth: 4,
        stem: ARCHITECTURES[arch].stems[n % ARCHITECTURES[arch].stems.length],
      };
      const expected: Record<string, unknown> = { ...options };
      if (!needsMlp(head)) delete expected.mlpDim;
      expect(inferNetwork(shapesOf(options))).to.deep.equal(expected);
    });
  }

  for (const widths of [[1], [1, 0.9, 0.8, 0.7, 0.6, 0.5], [1, 0.7, 0.35, 0.3], [1, 0.25], [1, 0.625, 0.125]]) {
    it(`tells widths ${widths.join(', ')}`, () => {
      const options: ResNetOptions = { arch: 'resnet18', head: 'supervised', outDim: 10, widths, baseWidth: 64 };
      expect(inferNetwork(shapesOf(options)).widths).to.deep.equal(widths);
    });
  }

  it('gives the channels of a width that is no short decimal', () => {
    const widths = [1, 2 / 3, 1 / 3];
    const options: ResNetOptions = { arch: 'resnet18', head: 'mocov2_slim', outDim: 8, widths, baseWidth: 32 };
    const inferred = inferNetwork(shapesOf(options)).widths;
    for (const channels of [32, 64, 128, 256]) {
      expect(slimChannels(channels, inferred)).to.deep.equal(slimChannels(channels, widths));
    }
    expect(inferred.every((w) => String(w).length < 8)).to.equal(true);
  });

  const small: ResNetOptions = { arch: 'resnet20', head: 'mocov2_slim', outDim: 8, widths: [1, 0.5], baseWidth: 4 };
  const set = (name: string, shape: number[]) => (shapes: Shapes) => void shapes.set(name, { shape });
  const wrong: [string, (shapes: Shapes) => void, RegExp][] = [
    [
      'no first convolution',
      (s) => s.delete('conv1.weight'),
      /expected a tensor conv1\.weight of 4 dimensions, found none/,
    ],
    [
      'a first convolution of other pictures',
      set('conv1.weight', [4, 1, 3, 3]),
      /expected conv1\.weight of \[4, 3, 3, 3\]/,
    ],
    ['a huge first convolution of nothing', set('conv1.weight', [1e9, 3, 3, 0]), /conv1\.weight of 4 dimensions/],
    [
      'a block too few',
      (s) => s.delete('features.8.conv1.weight'),
      /expected one of resnet18.*found 8 basic blocks of 4, 8, 16/,
    ],
    [
      'a convolution of other inputs',
      set('features.4.conv1.weight', [8, 1, 3, 3]),
      /features\.4\.conv1\.weight of \[8, 8, 3, 3\]/,
    ],
    ['a width that fits no layer', set('bn1.bn.1.weight', [3]), /expected one width for all layers/],
    [
      'a BatchNorm too few',
      (s) => s.delete('features.0.bn2.bn.1.weight'),
      /expected a tensor features\.0\.bn2\.bn\.1\.weight/,
    ],
    ['another head', (s) => s.delete('fc.2.weight'), /expected one of the heads mocov2_slim.* found fc\.0\.weight/],
    ['a head of other features', set('fc.2.weight', [8, 999]), /expected fc\.2\.weight of \[8, 16\], found \[8, 999\]/],
    [
      'a hundred widths',
      (s) => {
        const norms = [...s.keys()].filter((name) => name.endsWith('.bn.0.weight'));
        for (const name of norms) {
          for (let i = 1; i < 100; i++) s.set(name.replace(/0\.weight$/, `${i}.weight`), s.get(name)!);
        }
      },
      /at most 64 widths/,
    ],
  ];
  for (const [what, change, says] of wrong) {
    it(`refuses ${what}`, () => {
      const shapes = shapesOf(small);
      change(shapes);
      expect(() => inferNetwork(shapes)).to.throw(RangeError, says);
    });
  }
});

describe('encoderPrefix', () => {
  const tensors = (...prefixes: string[]) =>
    new Map(
      prefixes.flatMap((p) =>
        ['conv1.weight', 'bn1.bn.0.weight', 'features.0.conv1.weight'].map((n) => [p + n, { shape: [1] }]),
      ),
    );
  const cases: [string[], string][] = [
    [['module.encoder_k.', 'module.encoder_q.'], 'module.encoder_q.'],
    [['module.momentum_encoder.', 'module.base_encoder.'], 'module.base_encoder.'],
    [['module.'], 'module.'],
    [[''], ''],
    [['encoder_k.'], 'encoder_k.'],
  ];
  for (const [prefixes, chosen] of cases) {
    it(`among ${prefixes.map((p) => `"${p}"`).join(', ')} is "${chosen}"`, () => {
      expect(encoderPrefix(tensors(...prefixes))).to.equal(chosen);
    });
  }

  it('is refused where there is no slimmable network', () => {
    const plain = new Map(
      ['conv1.weight', 'bn1.weight', 'layer1.0.conv1.weight'].map((name) => [name, { shape: [1] }]),
    );
    expect(() => encoderPrefix(plain)).to.throw(
      RangeError,
      /expected a slimmable ResNet.*found conv1\.weight, bn1\.weight/,
    );
  });
});
