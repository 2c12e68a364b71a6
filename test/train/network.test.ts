import { expect } from 'chai';
import { join } from 'node:path';
import { writeSafetensors, type SafetensorsTensor } from '../../lib/io';
import { readState, SlimmableResNet } from '../../lib/nn';
import { loadEncoder } from '../../lib/train';
import { networkFormat, readNetwork } from '../../lib/train/network';
import { newFolder, removeFolders } from './tiny-run';

describe('an imported network in a file', () => {
  const whole = {
    format: networkFormat,
    prefix: 'net.',
    views: JSON.stringify({ recipe: 'cifar', image: 24 }),
    source: JSON.stringify({ file: 'a.pth.tar' }),
  };
  let tensors: Map<string, SafetensorsTensor>;

  before(async () => {
    const options = { arch: 'resnet20', head: 'supervised', outDim: 5, widths: [1, 0.5], baseWidth: 4 } as const;
    const net = new SlimmableResNet(options);
    const state = [...(await readState(net.stateDict()))] as [string, SafetensorsTensor][];
    net.dispose();
    const beside: SafetensorsTensor = { dtype: 'F32', shape: [2], data: new Float32Array(2) };
    tensors = new Map([...state.map(([name, t]) => [`net.${name}`, t] as const), ['net.queue', beside]]);
  });
  after(removeFolders);

  async function write(metadata: Record<string, string>, state = tensors): Promise<string> {
    const file = join(newFolder(), 'n.safetensors');
    await writeSafetensors(file, state, metadata);
    return file;
  }

  it('is what its tensors say, whatever its metadata claims', async () => {
    const claim = JSON.stringify({
      arch: 'resnet152',
      baseWidth: 100_000,
      widths: [1],
      head: 'mocov2_slim',
      outDim: 1e9,
    });
    const { options, views, source, run, weights } = await readNetwork(await write({ ...whole, network: claim }));
    expect(options).to.deep.equal({
      arch: 'resnet20',
      head: 'supervised',
      stem: 'cifar',
      outDim: 5,
      widths: [1, 0.5],
      baseWidth: 4,
      precision: 'fp32',
      seed: 0,
    });
    expect(views).to.deep.equal({ recipe: 'cifar', image: 24, precision: 'fp32', seed: 0 });
    expect({ source, run }).to.deep.equal({ source: { file: 'a.pth.tar' }, run: undefined });
    expect(weights.has('queue')).to.equal(false);
  });

  const wrong: [string, Record<string, string>, RegExp][] = [
    ['without views', { views: '' }, /no valid "views"/],
    ['with views that lack the size', { views: '{"recipe":"cifar"}' }, /lacks recipe or image/],
    ['with an unknown recipe', { views: '{"recipe":"x","image":32}' }, /recipe: expected one of cifar, .*received "x"/],
    ['with a source that is no object', { source: '[1]' }, /no valid "source"/],
    ['where one width was exported', { format: 'pt', network: '{}' }, /holds one width alone, which slimclr export/],
    ['with another prefix', { prefix: 'other.' }, /expected a tensor conv1\.weight/],
  ];
  for (const [what, change, says] of wrong) {
    it(`is refused ${what}`, async () => {
      const file = await write({ ...whole, ...change });
      const error = await readNetwork(file).catch((e: Error) => e);
      expect(error).to.have.property('name', 'CheckpointError');
      expect((error as Error).message)
        .to.match(says)
        .and.include(file);
    });
  }

  it('is refused without one of its tensors, by name', async () => {
    const state = new Map(tensors);
    state.delete('net.features.2.bn1.bn.1.running_var');
    const file = await write(whole, state);
    const error = await loadEncoder(file, 'cpu').catch((e: Error) => e);
    expect(error).to.have.property('name', 'CheckpointError');
    expect((error as Error).message).to.match(/missing: features\.2\.bn1\.bn\.1\.running_var/);
  });
});
