import { expect } from 'chai';
import { innerProducts, scope, tensor } from '../../lib/tensor';
import { checkGradient, input, numbers, project, random } from './gradient-check';

describe('innerProducts', () => {
  it('agrees with float64', () => {
    const [n, m, d] = [5, 7, 13];
    const [a, b] = [numbers(n * d, 1), numbers(m * d, 2)];
    const y = scope(() => innerProducts(tensor(a, [n, d]), tensor(b, [m, d])).dataSync());
    for (let i = 0; i < n; i++)
      for (let j = 0; j < m; j++) {
        let sum = 0;
        for (let c = 0; c < d; c++) sum += a[i * d + c] * b[j * d + c];
        expect(Number(y[i * m + j])).closeTo(sum, 1e-5);
      }
  });

  it('has gradients on both sides, also where both are one tensor', () => {
    checkGradient((a, b) => project(innerProducts(a, b)), [input([4, 9], 3), input([6, 9], 4)]);
    checkGradient((a) => project(innerProducts(a, a)), [input([5, 9], 5)]);
    checkGradient((b) => project(innerProducts(random([4, 9], 6), b)), [input([3, 9], 7)]);
  });

  it('names what was wrong', () => {
    scope(() => {
      expect(() => innerProducts(random([2, 3], 1), random([2, 4], 1))).throw(Error, /\[linear\]/);
    });
  });
});
