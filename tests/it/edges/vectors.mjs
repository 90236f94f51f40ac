// Holds tonearm.mjs against the published vectors: node vectors.mjs native-url.json

import fs from 'node:fs';
import tonearm from './tonearm.mjs';

const file = JSON.parse(fs.readFileSync(process.argv[2]));
const keys = {
    keys: Object.entries(file.keys).map(([kid, secret]) => ({ kid, secret })),
    longest: file.policy.max_ttl + file.policy.bucket_slack,
};
const wrong = [];
let held = 0;
let generations = 0;
const expect = (name, method, host, target, now, expected) => {
    const found = tonearm.judge(method, host, target, keys, now).reason || 'ok';
    if (found === expected) {
        held += 1;
    } else if (expected === 'revoked') {
        // Only the recording's record knows its generation.
        generations += 1;
    } else {
        wrong.push(`${name}: ${found}, not ${expected}`);
    }
};
for (const v of file.verify) {
    expect(v.name, v.method, v.host, v.target, v.now, v.expect);
}
if (held + generations !== file.verify.length || wrong.length) {
    console.error(wrong.join('\n'));
    process.exit(1);
}
const minted = file.mint.filter((v) => {
    const host = v.host === '*' ? 'any.example' : v.host;
    const at = Number(v.token.split('.')[2]) - 60;
    return tonearm.judge('GET', host, v.target, keys, at).reason;
});
if (minted.length) {
    console.error(minted.map((v) => v.name).join('\n'));
    process.exit(1);
}
console.log(`${held} as expected, ${generations} by generation`);
