"""TrainJob → placement → gang of pods, attempt after attempt."""
