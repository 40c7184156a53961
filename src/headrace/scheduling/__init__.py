"""Which gang starts when and where: a pure `decide`, and the loop that feeds it. Knows no TrainJob and no cluster."""
