// Required by mocha to run the ordinary tests on another device:
//   SLIMCLR_TEST_DEVICE=cuda npx mocha -r test/device/default-device.cjs
'use strict';
require('ts-node/register/transpile-only');
const { setDefaultDevice } = require('../../lib/tensor/index.ts');

setDefaultDevice(process.env.SLIMCLR_TEST_DEVICE ?? 'cuda:0');
