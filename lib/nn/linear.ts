import { linear, type Tensor } from '../tensor';
import type { Initializer } from './init';
import { Module, type Cost } from './module';
import { atWidth } from './widths';

/** How a linear layer is made: `defaultInit` draws as PyTorch's Linear does, else N(0, 0.01) with bias 0. */
export interface LinearOptions {
  bias?: boolean;
  defaultInit?: boolean;
}

function makeLinear(
  init: Initializer,
  inFeatures: number,
  outFeatures: number,
  { bias = true, defaultInit = false }: LinearOptions,
): { weight: Tensor; bias: Tensor | null } {
  const bound = 1 / Math.sqrt(inFeatures);
  const shape = [outFeatures, inFeatures];
  const weight = defaultInit ? init.uniform(shape, bound) : init.normal(shape, 0.01);
  if (!bias) return { weight, bias: null };
  return { weight, bias: defaultInit ? init.uniform([outFeatures], bound) : init.constant([outFeatures], 0) };
}

/** Linear layer of one shared weight: width i uses `weight[:outFeatures[i], :inFeatures[i]]`, `bias[:outFeatures[i]]`. */
export class SlimmableLinear extends Module {
  private readonly weight: Tensor;
  private readonly bias: Tensor | null;

  constructor(
    init: Initializer,
    private readonly inFeatures: readonly number[],
    private readonly outFeatures: readonly number[],
    options: LinearOptions = {},
  ) {
    super();
    const { weight, bias } = makeLinear(init, inFeatures[0], outFeatures[0], options);
    const slices = outFeatures.map((out, i) => [out, inFeatures[i]]);
    const shared = slices.length > 1; // not a layer of SwitchableLinear
    this.weight = this.addParameter('weight', weight, shared ? slices : undefined);
    this.bias = bias && this.addParameter('bias', bias, shared ? slices.map(([out]) => [out]) : undefined);
  }

  /** [N, inFeatures[i]] → [N, outFeatures[i]] */
  forward(x: Tensor, widthIndex: number): Tensor {
    const [outFeatures, inFeatures] = this.features(widthIndex);
    return linear(x, this.weight, this.bias, { outFeatures, inFeatures });
  }

  cost(widthIndex: number): Cost {
    const [outFeatures, inFeatures] = this.features(widthIndex);
    const macs = outFeatures * inFeatures;
    return { parameters: macs + (this.bias ? outFeatures : 0), macs };
  }

  /** Out and in. */
  private features(widthIndex: number): [number, number] {
    return [atWidth('linear', this.outFeatures, widthIndex), atWidth('linear', this.inFeatures, widthIndex)];
  }
}

/** One linear layer of its own for every width, `linears.I`. */
export class SwitchableLinear extends Module {
  private readonly linears: SlimmableLinear[];

  constructor(
    init: Initializer,
    inFeatures: readonly number[],
    outFeatures: readonly number[],
    options: LinearOptions = {},
  ) {
    super();
    this.linears = inFeatures.map((n, i) =>
      this.addModule(`linears.${i}`, new SlimmableLinear(init, [n], [outFeatures[i]], options)),
    );
  }

  /** [N, inFeatures[i]] → [N, outFeatures[i]] */
  forward(x: Tensor, widthIndex: number): Tensor {
    return atWidth('linear', this.linears, widthIndex).forward(x, 0);
  }

  cost(widthIndex: number): Cost {
    return atWidth('linear', this.linears, widthIndex).cost(0);
  }
}
