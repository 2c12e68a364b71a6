// Only the comparison with the released implementation's numbers (`npm run test:parity`).
module.exports = { ...require('./.mocharc.cjs'), spec: ['test/parity/*.parity.ts'] };
