"""Train small rerankers, forecast the large one, decide how to spend the budget, publish the evidence."""
