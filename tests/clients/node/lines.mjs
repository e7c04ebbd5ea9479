// A relying party driven from outside: one JSON array a line in, [function, argument]; one JSON object a line out.
import { createInterface } from "node:readline";

export async function serve(functions) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, argument] = JSON.parse(line);
    let told;
    try {
      told = { result: await functions[name](argument) };
    } catch (error) {
      told = { error: described(error) };
    }
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
}

// What a library says went wrong, its causes included: that is where some of them put the reason.
function described(error) {
  const texts = [];
  for (let each = error; each instanceof Error; each = each.cause) {
    texts.push(`${each.name}: ${each.error ?? ""} ${each.error_description ?? ""} ${each.message}`);
  }
  return texts.join("; ");
}
