import { EXPANSION } from './blocks';
import { HEADS, type HeadKind } from './heads';
import { ARCHITECTURES, type Arch, type ResNetOptions } from './resnet';

/** The shapes of a state's tensors, by name. */
export type StateShapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/** A slimmable network as the names and shapes of its tensors tell of it. */
export interface InferredNetwork extends Required<
  Pick<ResNetOptions, 'arch' | 'head' | 'outDim' | 'baseWidth' | 'stem'>
> {
  widths: number[];
  mlpDim?: number;
}

/** More decimals than a width is ever written with. */
const MAX_DECIMALS = 9;
/** Keeps a file of a thousand tiny widths from asking for a thousand heads. */
const MAX_WIDTHS = 64;

/**
 * The prefix of the encoder to evaluate: the query's (MoCo v2), the base encoder's (MoCo v3) or the only one.
 * @throws RangeError where no slimmable network stands under any prefix
 */
export function encoderPrefix(tensors: StateShapes): string {
  const prefixes = [...tensors.keys()]
    .filter((name) => name.endsWith('conv1.weight') && !/(^|\.)features\.\d+\./.test(name))
    .map((name) => name.slice(0, -'conv1.weight'.length))
    .filter((prefix) => tensors.has(`${prefix}bn1.bn.0.weight`));
  const chosen = prefixes.find((prefix) => !/encoder_k|momentum/.test(prefix)) ?? prefixes[0];
  if (chosen === undefined) {
    const names = [...tensors.keys()].slice(0, 3).join(', ');
    throw new RangeError(
      `[infer] expected a slimmable ResNet, such as module.encoder_q.conv1.weight beside module.encoder_q.bn1.bn.0.weight, ` +
        `found ${names}, …`,
    );
  }
  return chosen;
}

/**
 * Tells architecture, widths, base width, stem and head from the tensors of one network, without prefix. A width is a
 * short decimal that gives all channels, since 19 of 64 channels may be width 0.3. The weights have the shapes that
 * follow, so that a network built from the answer is no larger than the tensors.
 * @throws RangeError for a network that {@link ARCHITECTURES} and the heads do not hold
 */
export function inferNetwork(tensors: StateShapes): InferredNetwork {
  const shapes = new Shapes(tensors);
  const [baseWidth, , kernel] = shapes.of('conv1.weight', 4);
  shapes.expect('conv1.weight', [baseWidth, 3, kernel, kernel]);
  const { arch, features } = inferArch(shapes, baseWidth);
  return {
    arch,
    stem: kernel === 7 ? 'imagenet' : 'cifar',
    widths: inferWidths(shapes),
    baseWidth,
    ...inferHead(shapes, features),
  };
}

/** Shapes by name, with errors that say what is missing. */
class Shapes {
  constructor(private readonly tensors: StateShapes) {}

  names(): string[] {
    return [...this.tensors.keys()];
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  of(name: string, dimensions: number): readonly number[] {
    const shape = this.tensors.get(name)?.shape;
    if (shape?.length !== dimensions || shape.some((n) => n < 1)) {
      const found = shape ? `[${shape.join(', ')}]` : 'none';
      throw new RangeError(`[infer] expected a tensor ${name} of ${dimensions} dimensions, found ${found}`);
    }
    return shape;
  }

  expect(name: string, expected: readonly number[]): void {
    const shape = this.of(name, expected.length);
    if (shape.join() !== expected.join()) {
      throw new RangeError(`[infer] expected ${name} of [${expected.join(', ')}], found [${shape.join(', ')}]`);
    }
  }
}

function inferArch(shapes: Shapes, baseWidth: number): { arch: Arch; features: number } {
  const isBottleneck = shapes.has('features.0.conv3.weight');
  const channels: number[] = [];
  while (shapes.has(`features.${channels.length}.conv1.weight`)) {
    channels.push(shapes.of(`features.${channels.length}.conv${isBottleneck ? 3 : 2}.weight`, 4)[0]);
  }
  const arch = Object.entries(ARCHITECTURES).find(([, { block, stages }]) => {
    const expected = stages.flatMap((depth, stage) => {
      return new Array<number>(depth).fill(baseWidth * 2 ** stage * EXPANSION[block]);
    });
    return (block === 'bottleneck') === isBottleneck && expected.join() === channels.join();
  })?.[0];
  if (arch === undefined) {
    throw new RangeError(
      `[infer] expected one of ${Object.keys(ARCHITECTURES).join(', ')}, found ${channels.length} ` +
        `${isBottleneck ? 'bottleneck' : 'basic'} blocks of ${[...new Set(channels)].join(', ')} channels`,
    );
  }
  let input = baseWidth;
  for (const [n, output] of channels.entries()) {
    const block = `features.${n}`;
    if (isBottleneck) {
      const inner = output / EXPANSION.bottleneck;
      shapes.expect(`${block}.conv1.weight`, [inner, input, 1, 1]);
      shapes.expect(`${block}.conv2.weight`, [inner, inner, 3, 3]);
      shapes.expect(`${block}.conv3.weight`, [output, inner, 1, 1]);
    } else {
      shapes.expect(`${block}.conv1.weight`, [output, input, 3, 3]);
      shapes.expect(`${block}.conv2.weight`, [output, output, 3, 3]);
    }
    input = output;
  }
  return { arch: arch as Arch, features: input };
}

function inferWidths(shapes: Shapes): number[] {
  // Every BatchNorm whose channels grow with the width; the last one of a projector does not.
  const norms = shapes.names().flatMap((name) => /^(bn1|features\..*|fc\.1)\.bn\.0\.weight$/.exec(name)?.[1] ?? []);
  const widths: number[] = [];
  while (shapes.has(`bn1.bn.${widths.length}.weight`)) {
    const i = widths.length;
    if (i === MAX_WIDTHS) throw new RangeError(`[infer] expected at most ${MAX_WIDTHS} widths, found more`);
    const channels = (norm: string, index: number) => shapes.of(`${norm}.bn.${index}.weight`, 1)[0];
    widths.push(shortestWidth(norms.map((norm) => [channels(norm, 0), channels(norm, i)])));
  }
  return widths;
}

/**
 * A width with `int(full · w) = slim` for all pairs: the exact ratio where it is as short as 0.625, since 0.8 of 16
 * channels are 12 too, else the decimal of fewest digits.
 */
function shortestWidth(channels: readonly (readonly [full: number, slim: number])[]): number {
  const fits = (width: number) => channels.every(([full, slim]) => Math.floor(full * width + 1e-9) === slim);
  const least = Math.max(...channels.map(([full, slim]) => slim / full));
  if (Number.isInteger(1000 * least) && fits(least)) return least;
  for (let decimals = 0; decimals <= MAX_DECIMALS; decimals++) {
    const scale = 10 ** decimals;
    const width = Math.ceil(least * scale - 1e-6) / scale;
    if (fits(width)) return width;
  }
  const [full, slim] = channels[0];
  throw new RangeError(`[infer] expected one width for all layers, found none that gives ${slim} of ${full} channels`);
}

function inferHead(shapes: Shapes, features: number): { head: HeadKind; outDim: number; mlpDim?: number } {
  const heads: { needs: string; head: HeadKind; out: string }[] = [
    { needs: 'fc.weight', head: 'supervised', out: 'fc.weight' },
    { needs: 'fc.linears.0.weight', head: 'supervised_switch', out: 'fc.linears.0.weight' },
    { needs: 'fc.2.linears.0.weight', head: 'mocov2_switch', out: 'fc.2.linears.0.weight' },
    { needs: 'fc.2.weight', head: 'mocov2_slim', out: 'fc.2.weight' },
    // Both have a BatchNorm at the end; only SimCLR's has weights.
    { needs: 'fc.4.bn.0.weight', head: 'simclr_slim', out: 'fc.3.weight' },
    { needs: 'fc.4.bn.0.running_mean', head: 'mocov3_slim', out: 'fc.3.weight' },
  ];
  const found = heads.find(({ needs }) => shapes.has(needs));
  if (!found) {
    const names = shapes.names().filter((name) => name.startsWith('fc'));
    throw new RangeError(
      `[infer] expected one of the heads ${HEADS.join(', ')} under fc, found ${names.join(', ') || 'none'}`,
    );
  }
  const { head, out } = found;
  const [outDim, hidden] = shapes.of(out, 2);
  if (out !== 'fc.3.weight') {
    shapes.expect(out, [outDim, features]);
    return { head, outDim };
  }
  shapes.expect('fc.0.weight', [hidden, features]);
  return { head, outDim, mlpDim: hidden };
}
