import HeadPose
print(two)
