import { expect } from 'chai';
import { DISTILLATIONS, type Distillation, type SlimmableLossOptions } from '../../lib/methods';
import { SlimmableLoss, type WidthOutput } from '../../lib/methods/slimmable-loss';
import { backward, distill, scope, softmaxCrossEntropy, zeros, type Tensor } from '../../lib/tensor';
import { random } from '../tensor/gradient-check';

const item = (t: Tensor) => Number(t.dataSync()[0]);
const values = (t: Tensor) => Array.from(t.dataSync() as Float32Array);

describe('the loss of a slimmable network', () => {
  const widths = [1, 0.5, 0.25];
  const [n, c, d] = [4, 9, 6];
  const make = (options: SlimmableLossOptions) => new SlimmableLoss('test', widths, 2, options);
  const positives = () => zeros([n], { dtype: 'int32' });
  const outputs = (count = widths.length): (WidthOutput & { scores: Tensor })[] =>
    widths.slice(0, count).map((_, i) => {
      const scores = random([n, c], 10 + i, true);
      const loss = softmaxCrossEntropy(scores, positives());
      const embeddings = random([n, d], 20 + i, true);
      return { loss, embeddings, logits: () => scores, scores, positives: positives() };
    });

  const kinds: Record<Exclude<Distillation, 'none'>, (s: WidthOutput, t: WidthOutput) => Tensor> = {
    similarity: (s, t) => distill('kd', s.logits(), t.logits(), { teacherTemperature: 2, studentTemperature: 2 }),
    'kd-features': (s, t) =>
      distill('kd', s.embeddings, t.embeddings, { teacherTemperature: 2, studentTemperature: 2 }),
    'mse-features': (s, t) => distill('mse', s.embeddings, t.embeddings),
    'mse-logits': (s, t) => distill('mse', s.logits(), t.logits()),
    atkd: (s, t) => distill('atkd', s.logits(), t.logits()),
    dkd: (s, t) => distill('dkd', s.logits(), t.logits(), { positives: s.positives }),
  };

  it('offers the distillations that are tested here', () => {
    expect(DISTILLATIONS).to.have.members([...Object.keys(kinds), 'none']);
  });

  for (const [kind, reference] of Object.entries(kinds)) {
    it(`mixes the own loss with ${kind} from the full network, and weighs the widths`, () => {
      scope(() => {
        const all = outputs();
        const { loss, perWidth } = make({ distill: kind as Distillation, aux: 0.25 }).combine(all);
        const [full, ...subs] = all;
        const expected = [item(full.loss), ...subs.map((s) => 0.75 * item(s.loss) + 0.25 * item(reference(s, full)))];
        for (const [i, l] of values(perWidth).entries()) expect(l).to.be.closeTo(expected[i], 1e-5);
        expect(item(loss)).to.be.closeTo(1.75 * expected[0] + expected[1] + expected[2], 1e-4);
      });
    });
  }

  it('takes the mean of all larger widths where these teach', () => {
    scope(() => {
      const all = outputs();
      const { perWidth } = make({ distill: 'mse-logits', fullDistill: true }).combine(all);
      const [full, half, quarter] = all;
      const [a, b] = [kinds['mse-logits'](quarter, full), kinds['mse-logits'](quarter, half)].map(item);
      expect(values(perWidth)[2]).to.be.closeTo(0.5 * item(quarter.loss) + 0.25 * (a + b), 1e-5);
      expect(values(perWidth)[1]).to.be.closeTo(0.5 * (item(half.loss) + item(kinds['mse-logits'](half, full))), 1e-5);
    });
  });

  it('is the own loss alone without distillation, and of the full network during slow start', () => {
    scope(() => {
      const all = outputs();
      const own = all.map((o) => item(o.loss));
      expect(values(make({ distill: 'none' }).combine(all).perWidth)).to.deep.equal(own);
      const { loss, perWidth } = make({}).combine(outputs(1));
      expect(values(perWidth)).to.deep.equal([own[0]]);
      expect(item(loss)).to.equal(own[0]);
    });
  });

  it('leaves the teacher its own gradient', () => {
    scope(() => {
      const taught = outputs();
      backward(make({ distill: 'dkd', lossWeighting: 0 }).combine(taught).loss);
      const alone = outputs();
      backward(make({ distill: 'none', lossWeighting: 0 }).combine(alone).loss);
      expect(values(taught[0].scores.grad!)).to.deep.equal(values(alone[0].scores.grad!));
      expect(values(taught[1].scores.grad!)).to.not.deep.equal(values(alone[1].scores.grad!));
      for (const { scores } of [...taught, ...alone]) scores.dispose();
    });
  });

  it('refuses settings that make no sense', () => {
    const refuse = (options: SlimmableLossOptions, message: string) =>
      expect(() => make(options)).to.throw(RangeError, message);
    refuse({ aux: -0.1 }, '[test] expected aux in [0, 1], received -0.1');
    refuse({ teacherTemperature: 0 }, '[test] expected teacherTemperature > 0, received 0');
    refuse({ distill: 'kl' as 'dkd' }, 'atkd, dkd, none, received kl');
    refuse({ lossWeighting: 4 as 5 }, 'received 4');
    expect(make({}).weights).to.deep.equal([1.75, 1, 1]);
  });
});
