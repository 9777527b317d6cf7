// The client of the TypeScript SDK against the same server: node mcp_peer.mjs SDK_FOLDER SERVER
const [sdk, server] = process.argv.slice(2);
const { Client } = await import(`${sdk}/dist/esm/client/index.js`);
const { StdioClientTransport } = await import(`${sdk}/dist/esm/client/stdio.js`);

const client = new Client({ name: 'bench', version: '1' }, { capabilities: {} });
await client.connect(new StdioClientTransport({ command: server, args: ['legacy'] }));
for (const bytes of [5, 4096]) {
  const text = 'x'.repeat(bytes);
  const times = [];
  for (let i = 0; i < 5000; ++i) {
    const begin = performance.now();
    await client.callTool({ name: 'echo', arguments: { text } });
    times.push((performance.now() - begin) * 1000);
  }
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.floor(times.length * share)].toFixed(1);
  console.log(`mcp call, typescript sdk, ${bytes} bytes: median ${at(0.5)} us, p10 ${at(0.1)} us, p99 ${at(0.99)} us`);
}
await client.close();
