import { expect } from 'chai';
import { Initializer, makePredictor, type Head } from '../../lib/nn';
import { noGrad, randn, scope } from '../../lib/tensor';

describe("MoCo v3's predictor", () => {
  const widths = [1, 0.5];
  let predictor: Head;
  beforeEach(() => (predictor = makePredictor(new Initializer(0), widths, 16, 256)));
  afterEach(() => predictor.dispose());

  it('maps embeddings of one length at every width, with names of the released checkpoints', () => {
    const names = ['0.weight', '1.bn.0.weight', '1.bn.0.bias', '1.bn.1.weight', '1.bn.1.bias', '3.weight'];
    expect([...predictor.parameters().keys()]).to.deep.equal(names);
    const shape = scope(() => {
      const x = randn([4, 16], { seed: 1 });
      return widths.map((_, i) => noGrad(() => predictor.forward(x, i)).shape);
    });
    expect(shape).to.deep.equal([
      [4, 16],
      [4, 16],
    ]);
  });

  it("is drawn by PyTorch's default rule: uniform within 1/√(inputs)", async () => {
    const w = (await predictor.parameters().get('0.weight')!.data()) as Float32Array; // [256, 16]: within ±0.25
    const [low, high] = [Math.min(...w), Math.max(...w)];
    expect(low).to.be.within(-0.25, -0.24);
    expect(high).to.be.within(0.24, 0.25);
    const tenths = [0, 0, 0, 0, 0];
    for (const v of w) tenths[Math.min(4, Math.floor((v + 0.25) * 10))]++;
    for (const n of tenths) expect(n / w.length).to.be.closeTo(0.2, 0.03);
  });
});
