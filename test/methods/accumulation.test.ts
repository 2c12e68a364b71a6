import { expect } from 'chai';
import { MoCoV2, MoCoV3, SimCLR, Supervised, type Method, type StepOptions } from '../../lib/methods';
import { randn, rescale, scope, tensor, type Tensor } from '../../lib/tensor';

// BatchNorm couples the pictures of a part, so the networks are in evaluation mode where parts are compared with a whole.
describe('a batch in parts', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const [parts, size] = [4, 3];
  const network = { arch: 'resnet20', baseWidth: 4, widths: [1, 0.5], dim: 6 } as const;
  const image = [3, 8, 8];
  const views = (seed: number) =>
    scope(() => randn([parts * size, ...image], { seed }).dataSync() as Float32Array).slice();
  const [a, b] = [views(1), views(2)];

  /** Rows [from, from + n) of the views. */
  const rows = (data: Float32Array, from: number, n: number) => {
    const row = data.length / (parts * size);
    return tensor(data.slice(from * row, (from + n) * row), [n, ...image]);
  };
  const norm = (v: Float32Array) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  const gradients = (method: Method) =>
    [...method.parameters()].flatMap(([, { grad }]) => (grad ? [grad.dataSync() as Float32Array] : []));
  const expectSame = (actual: Float32Array[], expected: Float32Array[], tolerance: number) => {
    expect(actual.length).to.equal(expected.length);
    const [difference, length] = [
      norm(Float32Array.from(actual.map((v, i) => norm(v.map((x, j) => x - expected[i][j]))))),
      norm(Float32Array.from(expected.map(norm))),
    ];
    expect(length).to.be.above(1e-3);
    expect(difference / length).to.be.below(tolerance);
  };

  const target = (method: Method, from: number, n: number): Tensor =>
    method instanceof Supervised
      ? tensor(
          Int32Array.from({ length: n }, (_, i) => (from + i) % 5),
          [n],
        )
      : rows(b, from, n);
  const step = (method: Method, from: number, n: number, options: Partial<StepOptions> = {}) => {
    scope(() => {
      method.step(rows(a, from, n), target(method, from, n), { slim: true, ...options }); // its losses go with the scope
    });
  };
  const inParts = (method: Method) => {
    for (let i = 0; i < parts; i++) step(method, i * size, size, { first: i === 0, last: i === parts - 1 });
    const all = [...method.parameters().values()].flatMap(({ grad }) => grad ?? []);
    rescale(all, 1 / parts);
    return gradients(method);
  };
  const frozenStatistics = <M extends Method>(method: M): M => {
    method.encoder.eval();
    if (method instanceof MoCoV2) method.encoderK.eval();
    return own(method);
  };

  const perPicture: Record<string, () => Method> = {
    'supervised training': () => new Supervised({ ...network, classes: 5 }),
    'MoCo v2': () => new MoCoV2({ ...network, queueSize: 20, encoderMomentum: 0.5 }),
    'symmetric MoCo v2': () => new MoCoV2({ ...network, queueSize: 20, symmetric: true }),
    'MoCo v2 with mse-logits': () => new MoCoV2({ ...network, queueSize: 20, distill: 'mse-logits' }),
  };
  for (const [name, make] of Object.entries(perPicture)) {
    it(`gives the gradient of the whole: ${name}`, () => {
      const [whole, split] = [make(), make()].map(frozenStatistics);
      // Other weights than the key encoder's, so that it moves: once.
      for (const m of [whole, split]) rescale([...m.parameters().values()].slice(0, 1), 1.5);
      step(whole, 0, parts * size);
      expectSame(inParts(split), gradients(whole), 1e-5);
    });
  }

  it('leaves queue and key encoder of MoCo v2 as the whole does', async () => {
    const make = () => frozenStatistics(new MoCoV2({ ...network, queueSize: 20, encoderMomentum: 0.5 }));
    const [whole, split] = [make(), make()];
    for (const m of [whole, split]) rescale([...m.parameters().values()], 1.5);
    step(whole, 0, parts * size);
    inParts(split);
    const [expected, actual] = await Promise.all([whole.state(), split.state()]);
    for (const [key, { data }] of expected) {
      const other = actual.get(key)!.data;
      if (key.endsWith('running_mean') || key.endsWith('running_var')) continue;
      for (let i = 0; i < data.length; i++) expect(Number(other[i]), key).to.be.closeTo(Number(data[i]), 1e-5);
    }
    // And the next batch meets them.
    expect(Number(actual.get('queue_ptr')!.data[0])).to.equal(parts * size);
  });

  const overPairs: Record<string, () => Method> = {
    'MoCo v3': () => new MoCoV3({ ...network, mlpDim: 8 }),
    SimCLR: () => new SimCLR({ ...network, mlpDim: 8 }),
  };
  for (const [name, make] of Object.entries(overPairs)) {
    it(`has its own pictures as negatives where the loss is over pairs: ${name}`, () => {
      const apart = Array.from({ length: parts }, (_, i) => {
        const method = own(make());
        step(method, i * size, size);
        return gradients(method);
      });
      const expected = apart[0].map((v, at) =>
        v.map((_, j) => apart.reduce((sum, each) => sum + each[at][j], 0) / parts),
      );
      const split = own(make());
      expectSame(inParts(split), expected, 1e-5);
      const whole = own(make());
      step(whole, 0, parts * size);
      expect(() => expectSame(gradients(whole), expected, 1e-2)).to.throw();
    });
  }

  it('moves the key encoder of MoCo v3 once', () => {
    const method = own(new MoCoV3({ ...network, mlpDim: 8, encoderMomentum: 0.5 }));
    const name = 'conv1.weight';
    const [q, k] = [method.baseEncoder, method.momentumEncoder].map((e) => e.parameters().get(name)!);
    const before = (k.dataSync() as Float32Array).slice();
    rescale([q], 3);
    inParts(method);
    (k.dataSync() as Float32Array).forEach((v, i) => expect(v).to.be.closeTo(2 * before[i], 1e-5));
  });

  it('keeps no keys of a batch that was not finished', () => {
    const method = frozenStatistics(new MoCoV2({ ...network, queueSize: 20 }));
    step(method, 0, size, { last: false });
    expect(method.queuePointer.dataSync()[0]).to.equal(0n);
    step(method, 0, size, { first: false });
    expect(method.queuePointer.dataSync()[0]).to.equal(BigInt(2 * size));
  });
});
