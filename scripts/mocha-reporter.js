// Mocha's `spec` report, closed by one plain line that a script can read: `tests: N passed, N failed, N skipped`.
'use strict';
const { reporters } = require('mocha');

module.exports = class extends reporters.Spec {
  epilogue() {
    super.epilogue();
    const { passes, failures, pending } = this.stats;
    console.log(`tests: ${passes} passed, ${failures} failed, ${pending} skipped`);
  }
};
