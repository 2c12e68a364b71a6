import { checkOutput, writeSafetensors, type SafetensorsTensor } from '../io';
import { ARCHITECTURES } from '../nn';
import { CheckpointError } from './checkpoint';
import { buildEncoder } from './encoder';
import { readNetwork, type NetworkOptions, type StoredNetwork } from './network';

/** One width of a slimmable network, as a network of its own. */
export interface StandaloneNetwork {
  width: number;
  /** By torchvision's names of a ResNet: `conv1`, `bn1`, `layer1.0.conv1`, `layer1.0.downsample.0`, …, `fc`. */
  tensors: Map<string, SafetensorsTensor>;
  /** What is needed to build it. */
  description: Record<string, unknown>;
}

/**
 * Writes one width of a checkpoint as a stand-alone network: weights cut to its channels, its own BatchNorm. Names are
 * those of torchvision's ResNets; the metadata says what the network is (`network`, JSON) and has `format: "pt"`, which
 * marks tensors laid out as PyTorch's.
 * @throws SafetensorsError, CheckpointError; RangeError for a width that the network lacks; WriteError
 */
export async function exportNetwork(file: string, width: number, output: string): Promise<StandaloneNetwork> {
  checkOutput(output, file);
  const network = await readNetwork(file);
  buildEncoder(network, 'cpu').dispose(); // so that what is cut is whole
  const standalone = cutNetwork(network, width);
  const { tensors, description } = standalone;
  await writeSafetensors(output, tensors, { format: 'pt', network: JSON.stringify(description) });
  return standalone;
}

function cutNetwork({ file, options, weights }: StoredNetwork, width: number): StandaloneNetwork {
  const index = options.widths.indexOf(width);
  if (index < 0) {
    throw new RangeError(`[export] expected a width of ${options.widths.join(', ')}, received ${width}`);
  }
  const knife = new Knife(file, weights, index);
  const stem = knife.channels('bn1');
  knife.conv('conv1', 'conv1', stem, 3);
  knife.norm('bn1', 'bn1');

  let [block, input] = [0, stem];
  for (const [stage, depth] of ARCHITECTURES[options.arch].stages.entries()) {
    for (let n = 0; n < depth; n++) {
      const [from, to] = [`features.${block++}`, `layer${stage + 1}.${n}`];
      let inner = input;
      for (let layer = 1; knife.has(`${from}.conv${layer}.weight`); layer++) {
        const output = knife.channels(`${from}.bn${layer}`);
        knife.conv(`${from}.conv${layer}`, `${to}.conv${layer}`, output, inner);
        knife.norm(`${from}.bn${layer}`, `${to}.bn${layer}`);
        inner = output;
      }
      if (knife.has(`${from}.shortcut.0.weight`)) {
        knife.conv(`${from}.shortcut.0`, `${to}.downsample.0`, inner, input);
        knife.norm(`${from}.shortcut.1`, `${to}.downsample.1`);
      }
      input = inner;
    }
  }
  cutHead(knife, options, input);
  return { width, tensors: knife.tensors, description: describe(options, stem, input, width) };
}

/** `fc`, or its layers under the places that they have in it: `fc.0`, `fc.2`. */
function cutHead(knife: Knife, { head, outDim }: NetworkOptions, features: number): void {
  switch (head) {
    case 'supervised':
    case 'supervised_switch':
      return knife.linear('fc', outDim, features);
    case 'mocov2_slim':
    case 'mocov2_switch':
      knife.linear('fc.0', features, features);
      return knife.linear('fc.2', outDim, features);
    case 'mocov3_slim':
    case 'simclr_slim': {
      const hidden = knife.channels('fc.1');
      knife.linear('fc.0', hidden, features);
      knife.norm('fc.1', 'fc.1');
      knife.linear('fc.3', outDim, hidden);
      return knife.norm('fc.4', 'fc.4');
    }
  }
}

function describe(
  { arch, stem, head, outDim }: NetworkOptions,
  stemChannels: number,
  features: number,
  width: number,
): Record<string, unknown> {
  const { block } = ARCHITECTURES[arch];
  return {
    arch,
    width,
    stem:
      stem === 'imagenet' ? '7x7 convolution of stride 2, max-pool 3x3 of stride 2' : '3x3 convolution, no max-pool',
    block: block === 'cifar' ? 'basic, with a ReLU at the end of the branch too' : block,
    stemChannels,
    features,
    head,
    outDim,
  };
}

/** Cuts tensors to one width's channels. */
class Knife {
  readonly tensors = new Map<string, SafetensorsTensor>();

  constructor(
    private readonly file: string,
    private readonly weights: ReadonlyMap<string, SafetensorsTensor>,
    private readonly index: number,
  ) {}

  has(name: string): boolean {
    return this.weights.has(name);
  }

  /** Channels of a BatchNorm at this width. */
  channels(norm: string): number {
    return this.take(`${norm}.bn.${this.index}.running_mean`).shape[0];
  }

  conv(from: string, to: string, outChannels: number, inChannels: number): void {
    this.put(`${to}.weight`, slice(this.take(`${from}.weight`), outChannels, inChannels));
  }

  norm(from: string, to: string): void {
    for (const part of ['weight', 'bias', 'running_mean', 'running_var']) {
      const name = `${from}.bn.${this.index}.${part}`;
      if (this.has(name)) this.put(`${to}.${part}`, this.take(name));
    }
  }

  /** Of a layer of this width's own, or a slice of the shared one. Biases are sliced as the outputs are. */
  linear(name: string, outFeatures: number, inFeatures: number): void {
    const own = `${name}.linears.${this.index}`;
    const from = this.has(`${own}.weight`) ? own : name;
    this.put(`${name}.weight`, slice(this.take(`${from}.weight`), outFeatures, inFeatures));
    if (this.has(`${from}.bias`)) this.put(`${name}.bias`, slice(this.take(`${from}.bias`), outFeatures));
  }

  private take(name: string): SafetensorsTensor {
    const tensor = this.weights.get(name);
    if (!tensor) throw new CheckpointError(`[export] ${this.file}: tensor ${name} is missing`);
    return tensor;
  }

  private put(name: string, tensor: SafetensorsTensor): void {
    this.tensors.set(name, tensor);
  }
}

/** `tensor[:rows]`, or `tensor[:rows, :columns]`. */
function slice({ dtype, shape, data }: SafetensorsTensor, rows: number, columns = shape[1] ?? 1): SafetensorsTensor {
  const inner = shape.slice(2).reduce((product, n) => product * n, 1);
  const [from, to] = [(shape[1] ?? 1) * inner, columns * inner];
  const out = data.slice(0, rows * to) as Float32Array;
  for (let row = 0; row < rows; row++) out.set((data as Float32Array).subarray(row * from, row * from + to), row * to);
  return {
    dtype,
    shape: [rows, ...shape.slice(1, 2).map(() => columns), ...shape.slice(2)],
    data: out,
  };
}
