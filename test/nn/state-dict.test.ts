import { expect } from 'chai';
import { SlimmableResNet, readState, type HostTensor } from '../../lib/nn';

describe('state dict', () => {
  const network = (seed: number) =>
    new SlimmableResNet({ arch: 'resnet20', head: 'mocov2_slim', outDim: 4, baseWidth: 4, widths: [1, 0.5], seed });
  let net: SlimmableResNet;
  let other: SlimmableResNet;
  let state: Map<string, HostTensor>;
  beforeEach(async () => {
    net = network(0);
    other = network(1);
    state = await readState(other.stateDict());
  });
  afterEach(() => {
    net.dispose();
    other.dispose();
  });

  it('holds parameters and buffers', () => {
    expect([...state.keys()]).to.include.members([
      'conv1.weight',
      'bn1.bn.1.bias',
      'bn1.bn.1.running_var',
      'fc.2.bias',
    ]);
    expect(state.get('conv1.weight')).to.include({ dtype: 'F32' });
    expect(state.get('conv1.weight')!.shape).to.deep.equal([4, 3, 3, 3]);
  });

  it('carries a network over', async () => {
    net.loadStateDict(state);
    expect(await readState(net.stateDict())).to.deep.equal(state);
  });

  it("ignores PyTorch's num_batches_tracked", () => {
    state.set('bn1.bn.0.num_batches_tracked', { dtype: 'I64', shape: [], data: BigInt64Array.of(7n) });
    net.loadStateDict(state);
  });

  it('names missing, unexpected and misshapen tensors, and what to do; then nothing changes', async () => {
    const before = await readState(net.stateDict());
    state.delete('fc.2.bias');
    state.set('fc.4.weight', { dtype: 'F32', shape: [1], data: new Float32Array(1) });
    state.set('conv1.weight', { dtype: 'F32', shape: [4, 3, 1, 1], data: new Float32Array(12) });
    state.set('fc.0.bias', { dtype: 'I32', shape: [16], data: new Int32Array(16) });
    expect(() => net.loadStateDict(state))
      .to.throw(Error, /^\[state\] the tensors do not fit resnet20 \(widths 1, 0.5; base width 4; stem cifar\)/)
      .with.property('message')
      .that.contains('missing: fc.2.bias;')
      .and.contains('unexpected: fc.4.weight;')
      .and.contains('conv1.weight expected [4, 3, 3, 3], received [4, 3, 1, 1]')
      .and.contains('fc.0.bias expected a Float32Array, received a Int32Array')
      .and.contains('build the network with the architecture, widths, base width and head');
    expect(await readState(net.stateDict())).to.deep.equal(before);
  });

  it('tells of a prefix that all names carry', () => {
    const prefixed = new Map([...state].map(([name, t]) => [`module.encoder_q.${name}`, t]));
    expect(() => net.loadStateDict(prefixed)).to.throw(/strip the prefix "module\.encoder_q\." from the names/);
  });

  it('shortens long lists', () => {
    expect(() => net.loadStateDict(new Map())).to.throw(/missing: conv1\.weight, .* and \d+ more/);
  });
});
