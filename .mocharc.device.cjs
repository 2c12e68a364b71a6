// The comparison of a CUDA device with the CPU (`npm run test:device`).
module.exports = { ...require('./.mocharc.cjs'), spec: ['test/device/*.device.ts'], timeout: 600_000 };
